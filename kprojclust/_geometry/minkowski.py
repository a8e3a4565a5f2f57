"""Distances |a - Pa|_p between a point and its projection, for 1 <= p < 2."""

import numpy as np

from kprojclust._geometry.subspaces import Flat, residuals


def minkowski_distances(X, flats, p):
    """Distance |a - Pa|_p of every row to every flat: shape (n_clusters, n_samples).

    All residuals are formed: O(n d sum_c j_c) operations and O(n d k) entries.
    """
    distances = np.empty((len(flats), len(X)), dtype=X.dtype)
    for c, flat in enumerate(flats):
        distances[c] = np.linalg.norm(residuals(X, flat), p, axis=1)
    return distances


def euclidean_weights(X, flat, p):
    """Row weights s with s |a - Pa|_2^2 = |a - Pa|_p^2 at the given flat."""
    left = residuals(X, flat)
    euclidean = np.linalg.norm(left, axis=1)
    ratio = np.linalg.norm(left, p, axis=1) / np.where(euclidean > 0, euclidean, 1)
    return np.where(euclidean > 0, ratio**2, 1)


def keep_if_better(X, sample_weight, old, new, p, loss):
    """The new flat if it lowers the loss of the rows, the old one otherwise.

    The reweighted step for p < 2 is no majoriser, so it is only taken if it lowers
    the loss, and halved otherwise.
    """
    halfway = _between(old, new)
    candidates = [old, new, halfway]
    distances = minkowski_distances(X, candidates, p)
    costs = loss.rho(distances).astype(np.float64) @ sample_weight
    return candidates[int(np.argmin(costs))]


def _between(old, new):
    """A flat between two of equal dimension: leading directions of both projectors."""
    both = np.vstack([old.components, new.components])
    vectors = np.linalg.svd(both, full_matrices=False)[2][: len(new.components)]
    return Flat((old.mean + new.mean) / 2, vectors.astype(both.dtype, copy=False))
