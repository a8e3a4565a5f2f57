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
    """Weighted sums over some rows a, less an origin o: 1, a - o, (a - o)(a - o)'."""

    weight: float
    sums: np.ndarray  # (n_features,)
    gram: np.ndarray  # (n_features, n_features)

    def __add__(self, other):  # type: ignore[override]
        """Of the rows of both."""
        return Moments(*(a + b for a, b in zip(self, other, strict=True)))

    def __sub__(self, other):
        """Without the rows of the other."""
        return self + other.negative()

    def negative(self):
        """What takes these rows away when it is added."""
        return Moments(-self.weight, -self.sums, -self.gram)


def moments_by_cluster(X, row_weights, labels, n_clusters, origin):
    """Moments of the rows of each cluster, None for a cluster without rows.

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
    moments : tuple of Moments or None, of length n_clusters
    """
    if X.shape[0] * X.shape[1] ** 2 <= _FEW_PRODUCTS:
        return _moments_of_few(X, row_weights, labels, n_clusters, origin)
    sizes = np.bincount(labels[labels >= 0], minlength=n_clusters)
    present = np.flatnonzero(sizes)
    moments = [None] * n_clusters
    found = parallel_map(lambda c: _moments(X, row_weights, labels, c, origin), present)
    for c, of_cluster in zip(present, found, strict=True):
        moments[c] = of_cluster
    return tuple(moments)


def _moments_of_few(X, row_weights, labels, n_clusters, origin):
    """The same for all clusters at once: little data should cost few calls."""
    rows = (labels >= 0).nonzero()[0]
    Y, weights, labels = X[rows], row_weights[rows], labels[rows]
    sums = np.zeros((n_clusters, X.shape[1]))
    shares = np.zeros((n_clusters, len(rows)), dtype=X.dtype)
    shares[labels, np.arange(len(rows))] = weights
    if origin is not None:
        Y -= origin
        sums += shares @ Y
    d = X.shape[1]
    products = (Y[:, :, np.newaxis] * Y[:, np.newaxis]).reshape(len(rows), d * d)
    grams = (shares @ products).astype(np.float64).reshape(n_clusters, d, d)
    totals = np.bincount(labels, weights, minlength=n_clusters)
    sizes = np.bincount(labels, minlength=n_clusters)
    return tuple(
        Moments(total, sums[c], grams[c]) if sizes[c] else None
        for c, total in enumerate(totals)
    )


def _moments(X, row_weights, labels, c, origin):
    n_samples, n_features = X.shape
    found = None
    for tile in tiles(n_samples, n_features, X.itemsize):
        members = (labels[tile] == c).nonzero()[0]
        if len(members):
            Y, weights = X[tile][members], row_weights[tile][members]
            moments = _moments_of_tile(Y, weights, origin)
            found = moments if found is None else found + moments
    return found


def _moments_of_tile(Y, weights, origin):
    """Moments of all rows of Y, which is overwritten."""
    sums = np.zeros(Y.shape[1])
    if origin is not None:
        Y -= origin
        sums += weights @ Y
    if np.any(weights != 1):
        Y *= np.sqrt(weights)[:, np.newaxis]
    return Moments(weights.sum(dtype=np.float64), sums, (Y.T @ Y).astype(np.float64))


def add_moments(moments, others):
    """Cluster by cluster; None has no rows."""
    return tuple(
        a if b is None else b if a is None else a + b
        for a, b in zip(moments, others, strict=True)
    )


def subtract_moments(moments, others):
    """Cluster by cluster; None has no rows."""
    return tuple(
        a if b is None else b.negative() if a is None else a - b
        for a, b in zip(moments, others, strict=True)
    )


def no_moments(X, before, after, n_clusters, origin):
    """Nothing, for refits that look at the rows themselves."""
    return (None,) * n_clusters


def moved_moments(X, before, after, n_clusters, origin):
    """Change of the moments where rows moved and their weights stayed."""
    moved = before.labels != after.labels
    if not moved.any():
        return (None,) * n_clusters
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
    return subtract_moments(gained, lost)


def all_moments(X, before, after, n_clusters, origin):
    """Moments of all rows."""
    return moments_by_cluster(X, after.row_weights, after.labels, n_clusters, origin)
