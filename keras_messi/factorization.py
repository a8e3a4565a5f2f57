"""Matrices as clusters of rows on subspaces: the one door to kprojclust."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from keras_messi.configs import MessiConfig
from kprojclust import KSubspaces


class Factors(NamedTuple):
    """A matrix as clusters of rows, each with coordinates on the cluster's basis."""

    assignments: np.ndarray  # (n,)
    coordinates: list[np.ndarray]  # (n_c, j_c) each
    bases: list[np.ndarray]  # (j_c, d) each

    def stored(self) -> dict[str, np.ndarray]:
        """The factors under the names that the layers store them by."""
        tables = {f"coordinates_{c}": u for c, u in enumerate(self.coordinates)}
        bases = np.concatenate(self.bases)
        return {**tables, "bases": bases, "assignments": self.assignments}

    def arguments(self) -> dict[str, Any]:
        """The arguments that a factored layer takes for these factors."""
        return {
            "num_clusters": len(self.bases),
            "rank": [len(basis) for basis in self.bases],
            "cluster_sizes": [len(u) for u in self.coordinates],
        }


def factorize(
    matrix: np.ndarray,
    config: MessiConfig,
    *,
    numbers: int | None = None,
    weights: np.ndarray | None = None,
) -> Factors:
    """Factor a matrix around k subspaces (steps 1 to 3 of the paper's pipeline).

    Clusters without rows are dropped, and a cluster with fewer rows than its rank
    keeps no more directions than rows.

    Args:
        matrix: Array of shape (n, d).
        config: Clusters and ranks; `num_clusters` must not be "auto".
        numbers: Numbers that the factors may take under `ranks="budget"`, instead of
            what the rate of the config leaves.
        weights: Array of shape (n,), how much the squared error of each row counts.
    """
    if weights is not None:
        weights = weights.astype(matrix.dtype)
    if config.is_uniform:
        labels = _cluster(matrix, config, weights)
        ranks = [config.rank_for(*matrix.shape)] * int(config.num_clusters)
    else:
        numbers = numbers or int(config.kept * matrix.size)
        labels, ranks = _cluster_under_budget(matrix, config, numbers, weights)
    kept, assignments = np.unique(labels, return_inverse=True)
    coordinates, bases = [], []
    for c, label in enumerate(kept):
        own = assignments == c
        rows, rank = matrix[own], ranks[label]
        single = KSubspaces(1, min(rank, len(rows)), loss=config.loss)
        single.fit(rows, sample_weight=None if weights is None else weights[own])
        basis = single.components_[0]
        coordinates.append(rows @ basis.T)
        bases.append(basis)
    return Factors(assignments, coordinates, bases)


def _cluster(
    matrix: np.ndarray, config: MessiConfig, weights: np.ndarray | None
) -> np.ndarray:
    """Clusters for subspaces of equal rank."""
    k = int(config.num_clusters)
    if k == 1:
        return np.zeros(len(matrix), int)
    if config.clustering == "k-means":
        model: Any = KMeans(k, n_init=1, random_state=config.seed)
    else:
        model = KSubspaces(
            k,
            config.rank_for(*matrix.shape),
            loss=config.loss,
            init="k-means",
            n_init=1,
            random_state=config.seed,
        )
    return _fit_quietly(model, matrix, weights).labels_


def _cluster_under_budget(
    matrix: np.ndarray, config: MessiConfig, numbers: int, weights: np.ndarray | None
) -> tuple[np.ndarray, list[int]]:
    """Clusters and their ranks, all at least 1."""
    for k in range(int(config.num_clusters), 0, -1):
        model = KSubspaces(
            k, max_parameters=numbers, loss=config.loss, random_state=config.seed
        )
        _fit_quietly(model, matrix, weights)
        ranks = model.n_components_.tolist()
        if min(ranks) > 0:
            break
    return model.labels_, ranks


def _fit_quietly(model: Any, matrix: np.ndarray, weights: np.ndarray | None) -> Any:
    with warnings.catch_warnings():
        # Fewer clusters than asked for are legal here, and the report shows them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(matrix, sample_weight=weights)
