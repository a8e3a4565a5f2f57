"""Lloyd's loop for subspaces as one would write it down."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize

from competitors import Clustering

MAX_ITER = 100
TOL = 1e-4


def fit(X, k, j, seed) -> Clustering:
    """From k-means on the directions of the rows."""
    return fit_from(X, directional_labels(X, k, seed), k, j)


def fit_from(X, labels, k, j) -> Clustering:
    """From given labels, until none changes or the objective hardly falls."""
    loss_curve: list[float] = []
    for _ in range(MAX_ITER):
        bases = [leading_directions(X[labels == c], j) for c in range(k)]
        distances = np.stack([squared_residuals(X, basis) for basis in bases], axis=1)
        start, labels = labels, distances.argmin(axis=1)
        loss_curve.append(float(distances.min(axis=1).sum(dtype=np.float64)))
        if np.array_equal(labels, start) or _settled(loss_curve):
            break
    return Clustering(labels, loss_curve[-1], loss_curve)


def directional_labels(X, k, seed):
    """Labels of k-means on the normalised rows."""
    return KMeans(k, n_init=1, random_state=seed).fit_predict(normalize(X))


def leading_directions(rows, j):
    """Orthonormal basis of the best subspace of the rows, by their SVD."""
    return np.linalg.svd(rows, full_matrices=False)[2][:j]


def squared_residuals(X, basis):
    """|x - V'Vx|^2 of each row."""
    return np.sum((X - (X @ basis.T) @ basis) ** 2, axis=1)


def _settled(loss_curve):
    if len(loss_curve) < 2:
        return False
    last, now = loss_curve[-2:]
    return last - now <= TOL * last
