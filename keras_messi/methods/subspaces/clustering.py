"""Factors and codes of matrices by clustering: the one module that uses kprojclust."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from keras_messi.configs import MessiConfig, PQConfig
from kprojclust import KSubspaces, PartitioningGuidedKMeans

# Of codewords. Twice as many iterations find half a percent less error.
_TOLERANCE = 1e-3

# More starts found less than half a percent on weight matrices. At half of the numbers
# of kernels the first one, which compares all pairs of rows, was the best of ten; where
# a start takes seconds, it is the only one.
_NUM_STARTS, _LARGE = 3, 2**20
_MOST_ROWS_FOR_PAIRS = 5000


class Factors(NamedTuple):
    """A matrix as clusters of rows, each with coordinates on the cluster's basis.

    With the side "outputs", the matrix is the transpose of the kernel of a layer.
    """

    assignments: np.ndarray  # (n,)
    coordinates: list[np.ndarray]  # (n_c, j_c) each
    bases: list[np.ndarray]  # (j_c, d) each
    weights: np.ndarray | None = None  # (n,), of the squared errors of rows
    side: str = "inputs"

    def weights_of(self, c: int) -> np.ndarray | None:
        """The weights of the rows of a cluster, if there are any."""
        return None if self.weights is None else self.weights[self.assignments == c]

    def stored(self) -> dict[str, np.ndarray]:
        """The factors under the names that the layers store them by."""
        tables = {f"coordinates_{c}": u for c, u in enumerate(self.coordinates)}
        bases = np.concatenate(self.bases)
        return {**tables, "bases": bases, "assignments": self.assignments}

    def arguments(self) -> dict[str, Any]:
        """The arguments that a factored layer takes for these factors."""
        arguments: dict[str, Any] = {
            "num_clusters": len(self.bases),
            "rank": [len(basis) for basis in self.bases],
            "cluster_sizes": [len(u) for u in self.coordinates],
        }
        return arguments if self.side == "inputs" else {**arguments, "side": self.side}


def factorize(
    matrix: np.ndarray,
    config: MessiConfig,
    *,
    numbers: int | None = None,
    weights: np.ndarray | None = None,
) -> Factors:
    """Factor a matrix around k subspaces (steps 1 to 3 of the paper's pipeline).

    Clusters without rows are dropped, and a cluster with fewer rows than its rank
    keeps no more directions than rows. Ranks are raised to whole blocks if coordinates
    become codes; or lowered, where a cluster has no more directions than that.

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
        numbers = numbers or config.numbers_for(matrix.size)
        labels, ranks = _cluster_under_budget(matrix, config, numbers, weights)
    kept, assignments = np.unique(labels, return_inverse=True)
    coordinates, bases = [], []
    for c, label in enumerate(kept):
        own = assignments == c
        rows = matrix[own]
        rank = rank_in_blocks(ranks[label], config.block_size, min(rows.shape))
        single = KSubspaces(1, rank, loss=config.loss)
        single.fit(rows, sample_weight=None if weights is None else weights[own])
        basis = single.components_[0]
        coordinates.append(rows @ basis.T)
        bases.append(basis)
    return Factors(assignments, coordinates, bases, weights)


def rank_in_blocks(rank: int, block_size: int, most: int) -> int:
    """A rank in whole blocks, or less than one where there are no more directions."""
    raised = -(-rank // block_size) * block_size
    return raised if raised <= most else most // block_size * block_size or most


def _cluster(
    matrix: np.ndarray, config: MessiConfig, weights: np.ndarray | None
) -> np.ndarray:
    """Clusters for subspaces of equal rank."""
    k = int(config.num_clusters)
    if k == 1:
        return np.zeros(len(matrix), int)
    if config.clustering == "k-means":
        return _fit(KMeans(k, n_init=1, random_state=config.seed), matrix, weights)
    rank, start = config.rank_for(*matrix.shape), {"init": "k-means", "n_init": 1}
    model = KSubspaces(k, rank, loss=config.loss, random_state=config.seed, **start)
    return _fit_from_known(model, matrix, weights)


def _cluster_under_budget(
    matrix: np.ndarray, config: MessiConfig, numbers: int, weights: np.ndarray | None
) -> tuple[np.ndarray, list[int]]:
    """Clusters and their ranks, all at least 1."""
    for k in range(int(config.num_clusters), 0, -1):
        model = KSubspaces(
            k,
            max_parameters=numbers,
            loss=config.loss,
            n_init=_num_starts(matrix),
            random_state=config.seed,
        )
        labels = _fit_from_known(model, matrix, weights)
        ranks = model.n_components_.tolist()
        if min(ranks) > 0:
            break
    return labels, ranks


def _num_starts(matrix: np.ndarray) -> int:
    compares_pairs = len(matrix) <= _MOST_ROWS_FOR_PAIRS
    return 1 if compares_pairs and matrix.size > _LARGE else _NUM_STARTS


_KNOWN: ContextVar[dict[str, np.ndarray] | None] = ContextVar("known", default=None)


@contextmanager
def shared_clusterings(labels: dict[str, np.ndarray]) -> Iterator[None]:
    """Let each clustering start from the last one of the same matrix with the same k.

    Args:
        labels: Those to start from, by a key of their own; new ones are put there.
    """
    token = _KNOWN.set(labels)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def fingerprint(matrix: np.ndarray) -> str:
    """A text that no other matrix has."""
    rows = np.ascontiguousarray(matrix)
    return hashlib.blake2b(rows.data, digest_size=8).hexdigest()


def _fit_from_known(
    model: KSubspaces, matrix: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """Labels that start from those before, if clusterings are shared."""
    known = _KNOWN.get()
    if known is None:
        return _fit(model, matrix, weights)
    kind = "plain" if weights is None else "weighted"
    key = f"{fingerprint(matrix)}-{model.n_clusters}-{kind}"
    if key in known:
        model.set_params(init=known[key], n_init=1)
    labels = _fit(model, matrix, weights)
    known[key] = labels.astype(np.min_scalar_type(model.n_clusters - 1))
    return labels


class Codes(NamedTuple):
    """A matrix whose rows are codewords, one after another."""

    codebooks: np.ndarray  # (num_codebooks, num_codewords, block_size)
    codes: np.ndarray  # (n, num_blocks)


def code(matrix: np.ndarray, config: PQConfig, weights: np.ndarray) -> Codes:
    """Cut rows into blocks, and give each the codeword next to it.

    Codewords that no block is next to are dropped. Where codebooks then differ in size,
    the smaller ones end with zeros.

    Args:
        matrix: Array of shape (n, num_blocks * block_size).
        config: Blocks and codebooks, which must divide the blocks.
        weights: Array of shape (n, num_blocks), how much the squared error of each
            block counts.
    """
    blocks = matrix.reshape(*weights.shape, config.block_size)
    num_codebooks = config.codebooks_for(weights.shape[1])
    found = [
        _code_blocks(own.reshape(-1, config.block_size), config, own_weights.ravel())
        for own, own_weights in zip(
            np.split(blocks, num_codebooks, axis=1),
            np.split(weights, num_codebooks, axis=1),
            strict=True,
        )
    ]
    most = max(len(codebook) for codebook, _ in found)
    codebooks = [np.pad(x, ((0, most - len(x)), (0, 0))) for x, _ in found]
    codes = [codes.reshape(len(matrix), -1) for _, codes in found]
    return Codes(np.stack(codebooks), np.concatenate(codes, axis=1))


def _code_blocks(
    blocks: np.ndarray, config: PQConfig, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Codebook and codes of blocks, shapes (num_codewords, block_size) and (n,)."""
    if not weights.any():
        weights = np.ones_like(weights)
    codebook, labels = fit_codewords(
        blocks,
        min(config.num_codewords, len(blocks)),
        weights=weights.astype(blocks.dtype),
        seed=config.seed,
    )
    used, codes = np.unique(labels, return_inverse=True)
    return codebook[used], codes


def _fit(model: Any, matrix: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    with warnings.catch_warnings():
        # Fewer clusters than asked for are legal here, and the report shows them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(matrix, sample_weight=weights).labels_


def fit_codewords(
    blocks: np.ndarray,
    num_codewords: int,
    start: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Codewords near the blocks of a weight, and which one each block has.

    Args:
        blocks: Array of shape (n, block_size).
        num_codewords: Number of codewords K.
        start: Codewords to start from, (K, block_size).
        weights: Array of shape (n,), how much the squared error of each block counts.
        seed: Seed of the clustering.

    Returns:
        Codewords of shape (K, block_size) and the codes of shape (n,).
    """
    init: Any = "partition" if start is None else start
    model = PartitioningGuidedKMeans(
        num_codewords, init=init, tol=_TOLERANCE, random_state=seed
    )
    codes = _fit(model, blocks, weights)
    return model.cluster_centers_, codes
