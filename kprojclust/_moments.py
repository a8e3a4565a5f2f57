"""Second moments of clusters: all that an M-step needs to know of their rows.

A change of the labels changes them by the rows that moved only.
"""

from typing import NamedTuple

import numpy as np

from kprojclust._threads import parallel_map
from kprojclust._tiles import tiles

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

    def __neg__(self):
        """What takes these rows away when it is added."""
        return Moments(self.clusters, -self.weights, -self.sums, -self.grams)


def all_moments(X, before, after, n_clusters, origin):
    """Moments of all rows."""
    return moments_by_cluster(X, after.row_weights, after.labels, n_clusters, origin)


def moved_moments(X, before, after, n_clusters, origin):
    """Change of the moments where rows moved and their weights stayed."""
    moved = before.labels != after.labels
    if not moved.any():
        return no_moments(X, before, after, n_clusters, origin)
    if _are_few(X):
        rows = moved.nonzero()[0]
        labels, weights = after.labels[rows], after.row_weights[rows]
        shares = _shares(labels, weights, n_clusters)
        shares[before.labels[rows], np.arange(len(rows))] = -weights
        return _moments_of_few(X[rows], shares, origin)
    gained, lost = (
        moments_by_cluster(
            X,
            state.row_weights,
            np.where(moved, state.labels, -1),
            n_clusters,
            origin,
        )
        for state in (after, before)
    )
    return gained + -lost


def no_moments(X, before, after, n_clusters, origin):
    """Nothing, for refits that look at the rows themselves."""
    return Moments.zeros([], X.shape[1])


def moments_by_cluster(X, row_weights, labels, n_clusters, origin):
    """Moments of the rows of each cluster.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    row_weights : ndarray of shape (n_samples,)
    labels : ndarray of shape (n_samples,)
        Rows with a label below 0 are left out.
    n_clusters : int
    origin : ndarray of shape (n_features,) or None
        None is zero, and leaves the sums at zero.

    Returns
    -------
    moments : Moments
    """
    counted = labels >= 0
    if _are_few(X):
        if not counted.all():
            X, row_weights, labels = X[counted], row_weights[counted], labels[counted]
        return _moments_of_few(X, _shares(labels, row_weights, n_clusters), origin)
    sizes = np.bincount(labels[counted], minlength=n_clusters)
    moments = Moments.zeros(np.flatnonzero(sizes), X.shape[1])

    def add_tiles(i):
        of_cluster = labels == moments.clusters[i]
        for tile in tiles(*X.shape, X.itemsize):
            rows = of_cluster[tile].nonzero()[0]
            if len(rows):
                _add_tile(moments, i, X[tile][rows], row_weights[tile][rows], origin)

    parallel_map(add_tiles, range(len(moments.clusters)))
    return moments


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
    if origin is not None:
        X = X - origin
        moments.sums[:] = shares @ X
    products = X[:, :, np.newaxis] * X[:, np.newaxis]
    grams = shares @ products.reshape(len(X), n_features**2)
    moments.grams[:] = grams.reshape(-1, n_features, n_features)
    return moments


def _add_tile(moments, i, X, weights, origin):
    """Add rows, which are overwritten, to the i-th cluster."""
    moments.weights[i] += weights.sum(dtype=np.float64)
    if origin is not None:
        X -= origin
        moments.sums[i] += weights @ X
    if np.any(weights != 1):
        X *= np.sqrt(weights)[:, np.newaxis]
    moments.grams[i] += X.T @ X
