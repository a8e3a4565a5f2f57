"""Second moments of clusters: the sufficient statistics of the update step.

Where labels change, they are updated by the rows that moved.
"""

from typing import NamedTuple

import numpy as np

from kprojclust._geometry.subspaces import are_unequal
from kprojclust._parallel.threads import parallel_map
from kprojclust._parallel.tiles import tiles

# Up to so many products of two features, all clusters are summed up in one call.
_FEW_PRODUCTS = 2**20


class Moments(NamedTuple):
    """Weighted sums over the rows a of some clusters, less an origin o."""

    clusters: np.ndarray  # (n_present,) which ones, ascending; of the others all are 0
    weights: np.ndarray  # (n_present,) of 1
    sums: np.ndarray  # (n_present, n_features) of a - o; 0 where o is None
    grams: np.ndarray  # (n_present, n_features, n_features) of (a - o)(a - o)'

    @classmethod
    def zeros(cls, clusters, n_features):
        """Of clusters without rows."""
        shape = len(clusters), n_features
        sums = np.zeros(shape[:1]), np.zeros(shape), np.zeros((*shape, n_features))
        return cls(np.asarray(clusters, dtype=np.intp), *sums)

    def __add__(self, other):  # type: ignore[override]
        """Of the rows of both."""
        clusters = np.union1d(self.clusters, other.clusters)
        total = Moments.zeros(clusters, self.sums.shape[1])
        for moments in (self, other):
            here = np.searchsorted(clusters, moments.clusters)
            for sums, part in zip(total[1:], moments[1:], strict=True):
                sums[here] += part
        return total


def all_moments(X, before, after, n_clusters, origin):
    """Moments of all rows."""
    return moments_by_cluster(X, after.row_weights, after.labels, n_clusters, origin)


def moved_moments(X, before, after, n_clusters, origin):
    """Change of the moments where rows moved and their weights stayed."""
    return moments_of_moves(
        X, after.row_weights, before.labels, after.labels, n_clusters, origin
    )


def no_moments(X, before, after, n_clusters, origin):
    """Nothing, for refits that look at the rows themselves."""
    return Moments.zeros([], X.shape[1])


def moments_by_cluster(X, row_weights, labels, n_clusters, origin):
    """Moments of the rows of each cluster, about an origin.

    The origin has shape (n_features,); None is zero, and leaves the sums at zero.
    """
    if _are_few(X):
        shares = _shares(labels, row_weights, n_clusters)
        return _moments_of_few(X, shares, origin)
    sizes = np.bincount(labels, minlength=n_clusters)
    return _moments_of_many(X, row_weights, {np.add: labels}, sizes, origin)


def moments_of_moves(X, row_weights, old_labels, labels, n_clusters, origin):
    """Change of the moments of each cluster as rows move; else as above."""
    moved = old_labels != labels
    rows = moved.nonzero()[0]
    old, new = old_labels[rows], labels[rows]
    if _are_few(X):
        shares = _shares(new, row_weights[rows], n_clusters)
        shares[old, np.arange(len(rows))] = -row_weights[rows]
        return _moments_of_few(X[rows], shares, origin)
    sizes = np.bincount(np.concatenate([old, new]), minlength=n_clusters)
    moves = {
        np.add: np.where(moved, labels, -1),
        np.subtract: np.where(moved, old_labels, -1),
    }
    return _moments_of_many(X, row_weights, moves, sizes, origin)


def _are_few(X):
    return X.shape[0] * X.shape[1] ** 2 <= _FEW_PRODUCTS


def _shares(labels, row_weights, n_clusters):
    """Weight of each row in each cluster: shape (n_clusters, n_rows)."""
    shares = np.zeros((n_clusters, len(labels)), dtype=row_weights.dtype)
    shares[labels, np.arange(len(labels))] = row_weights
    return shares


def _moments_of_few(X, shares, origin):
    """Of all clusters at once: little data should cost few calls."""
    clusters = shares.any(axis=1).nonzero()[0]
    n_features = X.shape[1]
    shares = shares[clusters]
    moments = Moments.zeros(clusters, n_features)
    moments.weights[:] = shares.sum(axis=1, dtype=np.float64)
    X = X.astype(np.float64)
    if origin is not None:
        X -= origin
        moments.sums[:] = shares @ X
    products = X[:, :, np.newaxis] * X[:, np.newaxis]
    grams = shares @ products.reshape(len(X), n_features**2)
    moments.grams[:] = grams.reshape(-1, n_features, n_features)
    return moments


def _moments_of_many(X, row_weights, labels, sizes, origin):
    """Of rows with labels of their own for each of the operations add and subtract."""
    moments = Moments.zeros(np.flatnonzero(sizes), X.shape[1])

    def sum_up(i):
        for operation, of_rows in labels.items():
            for tile in tiles(len(X), X.shape[1], X.itemsize):
                rows = (of_rows[tile] == moments.clusters[i]).nonzero()[0]
                if len(rows):
                    Y, weights = X[tile][rows], row_weights[tile][rows]
                    _take_in(moments, i, operation, Y, weights, origin)

    parallel_map(sum_up, range(len(moments.clusters)))
    return moments


def _take_in(moments, i, operation, Y, weights, origin):
    """Add or subtract rows, which are overwritten, of the i-th cluster."""
    _, totals, sums, grams = moments
    totals[i] = operation(totals[i], weights.sum(dtype=np.float64))
    if origin is not None:
        Y -= origin
        operation(sums[i], weights @ Y, out=sums[i])
    if np.any(weights != 1):
        if are_unequal(weights):
            Y = Y.astype(np.float64)
        Y *= np.sqrt(weights)[:, np.newaxis]
    operation(grams[i], Y.T @ Y, out=grams[i])
