"""What one run of K-subspaces is to minimise."""

from typing import Any, NamedTuple

import numpy as np

from kprojclust._minkowski import minkowski_distances
from kprojclust._subspaces import dimensions_of, squared_distances


class Problem(NamedTuple):
    """Rows, and the objective sum_i w_i rho(|x_i - P x_i|_p) of their clusters."""

    X: np.ndarray  # (n_samples, n_features)
    sample_weight: np.ndarray  # (n_samples,)
    n_components: np.ndarray  # (n_clusters,); ignored under a budget
    max_parameters: int | None
    loss: Any
    p: float
    affine: bool


class Assignment(NamedTuple):
    """Rows dealt out to flats."""

    labels: np.ndarray  # (n_samples,)
    residuals: np.ndarray  # (n_samples,) distance to the flat of the label
    objective: float


def distances_to_flats(X, flats, p):
    """Distance of every row to every flat: shape (n_samples, n_clusters)."""
    if p == 2:
        return np.sqrt(squared_distances(X, flats))
    return minkowski_distances(X, flats, p)


def nearest(distances, sample_weight, flats, loss, price):
    """Cluster of each row: least w rho(distance), plus the price of its coordinates.

    Without a price that is the least distance. Ties go to the lowest label.
    """
    if price == 0:
        return np.argmin(distances, axis=1)
    rent = price * dimensions_of(flats)
    costs = sample_weight[:, np.newaxis] * loss.rho(distances)
    return np.argmin(costs + rent.astype(costs.dtype), axis=1)


def own_distances(distances, labels):
    """Entry of each row for the cluster that it is labelled with."""
    return np.take_along_axis(distances, labels[:, np.newaxis], 1)[:, 0]


def assign(problem, flats, price):
    """Deal the rows out to their best flats."""
    distances = distances_to_flats(problem.X, flats, problem.p)
    labels = nearest(distances, problem.sample_weight, flats, problem.loss, price)
    residuals = own_distances(distances, labels)
    losses = problem.loss.rho(residuals).astype(np.float64)
    return Assignment(labels, residuals, float(problem.sample_weight @ losses))


def stored_numbers(labels, flats, affine):
    """Numbers to store the projected rows: sum of j_c (n_c + d), and the means."""
    sizes = np.bincount(labels, minlength=len(flats))
    n_features = len(flats[0].mean)
    means = n_features * len(flats) if affine else 0
    return int(dimensions_of(flats) @ (sizes + n_features)) + means
