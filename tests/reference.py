"""Slow, literal versions of what the packages compute fast."""

from itertools import permutations

import numpy as np


def squared_distance(x, basis):
    """|x - V'Vx|^2 for one row and one basis with orthonormal rows."""
    projection = sum(np.dot(v, x) * v for v in basis.astype(np.float64))
    return float(np.sum((x.astype(np.float64) - projection) ** 2))


def squared_distances(X, components):
    """The same for all rows and all bases: shape (n_samples, n_clusters)."""
    return np.array([[squared_distance(x, basis) for basis in components] for x in X])


def fit_subspace(X, sample_weight, n_components):
    """Leading right singular vectors of the weighted rows, by a full SVD."""
    weighted = np.sqrt(sample_weight)[:, np.newaxis] * X.astype(np.float64)
    return np.linalg.svd(weighted, full_matrices=True)[2][:n_components]


def ksubspaces(X, sample_weight, labels, n_components, n_iter):
    """Lloyd's loop for subspaces from given labels; no cluster may become empty.

    Returns the labels, the bases they come from, and the objective per iteration.
    """
    loss_curve = []
    for _ in range(n_iter):
        components = [
            fit_subspace(X[labels == c], sample_weight[labels == c], dimension)
            for c, dimension in enumerate(n_components)
        ]
        distances = squared_distances(X, components)
        labels = distances.argmin(axis=1)
        loss_curve.append(float(sample_weight @ distances.min(axis=1)))
    return labels, components, loss_curve


def clustering_accuracy(labels_true, labels_pred):
    """Best share of agreement over all renamings of the predicted labels."""
    names = range(max(*labels_true, *labels_pred) + 1)
    return max(
        np.mean(np.asarray(labels_true) == np.array([names[p] for p in labels_pred]))
        for names in permutations(names)
    )


def dense_matrix(assignments, coordinates, bases):
    """Matrix whose row i is (coordinates of i in its cluster) @ (its basis)."""
    seen = [0] * len(bases)
    rows = []
    for c in assignments:
        rows.append(coordinates[c][seen[c]] @ bases[c])
        seen[c] += 1
    return np.array(rows)


def paper_rank(rate, n, d, k):
    """Largest j with n j + k j d <= (1 - rate) n d, rate in whole percent."""
    j = 0
    while 100 * (j + 1) * (n + k * d) <= (100 - rate) * n * d:
        j += 1
    return j
