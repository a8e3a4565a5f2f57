"""Centres from cutting the rows in two again and again: no cluster starts empty."""

import numpy as np
from sklearn.utils.extmath import row_norms

from kprojclust._geometry.averages import cluster_means
from kprojclust._geometry.axes import cut_clusters

# Parts are cut together if they gain at least this share of the largest gain.
_TOGETHER = 0.5


def partition_centers(X, row_weights, n_clusters):
    """A row of each part into which the rows are cut, those of most gain first.

    It is the row nearest to the mean of the part. Equal rows are in the same part, so
    that each centre is nearer to itself than any other: no cluster starts empty. There
    are fewer than n_clusters centres only where there are fewer distinct rows. The
    weights must not all be zero.
    """
    rows = np.flatnonzero(row_weights > 0)
    X, row_weights = X[rows], row_weights[rows]
    parts = _Parts(X, row_weights, n_clusters)
    while parts.n_found < n_clusters and parts.gains.max() > 0:
        parts.cut_best()
    return _middle_rows(X, parts.labels, parts.means[: parts.n_found])


def _middle_rows(X, labels, means):
    """Of each part the row nearest to its mean."""
    squared = row_norms(X - means[labels], squared=True)
    order = np.lexsort((squared, labels))
    return X[order[np.searchsorted(labels[order], np.arange(len(means)))]]


class _Parts:
    """Rows in parts, and how each part would be cut."""

    def __init__(self, X, row_weights, n_clusters):
        self.X, self.row_weights = X, row_weights
        self.n_found = 1
        self.labels = np.zeros(len(X), np.intp)
        self.above = np.zeros(len(X), bool)
        self.means = np.empty((n_clusters, X.shape[1]), X.dtype)
        self.gains = np.zeros(n_clusters)
        self._look_at(np.array([0]))

    def cut_best(self):
        """Cut the parts of about the largest gain."""
        order = np.argsort(-self.gains, kind="stable")[: len(self.gains) - self.n_found]
        chosen = order[self.gains[order] >= _TOGETHER * self.gains[order[0]]]
        new = self.n_found + np.arange(len(chosen))
        name_above = np.arange(len(self.gains))
        name_above[chosen] = new
        self.labels = np.where(self.above, name_above[self.labels], self.labels)
        self.n_found += len(chosen)
        self._look_at(np.concatenate([chosen, new]))

    def _look_at(self, parts):
        """Means and cuts of parts that are new."""
        place = np.full(len(self.gains), -1)
        place[parts] = np.arange(len(parts))
        places = place[self.labels]
        rows = np.flatnonzero(places >= 0)
        X, row_weights, labels = self.X[rows], self.row_weights[rows], places[rows]
        origin = np.zeros((len(parts), X.shape[1]), X.dtype)
        self.means[parts] = cluster_means(X, row_weights, labels, origin)
        cut = cut_clusters(X, row_weights, labels, self.means[parts])
        self.above[rows], self.gains[parts] = cut.above, cut.gains
