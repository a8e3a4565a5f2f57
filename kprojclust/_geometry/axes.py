"""Principal axes of clusters of rows, and the cut of each cluster across its axis."""

from typing import NamedTuple

import numpy as np

from kprojclust._geometry.averages import cluster_sums

# Steps of the power method.
_N_STEPS = 3


class Cut(NamedTuple):
    """Each cluster cut in two through its centre, across its principal axis."""

    above: np.ndarray  # (n_samples,) bool, the side of each row
    weights: np.ndarray  # (n_clusters, 2) of the rows below and above
    centers: np.ndarray  # (n_clusters, 2, n_features) means of the rows of either side
    gains: np.ndarray  # (n_clusters,) by how much two centres lower the objective


def principal_axes(residuals, row_weights, labels, n_clusters):
    """Leading principal axis of the rows of each cluster, approximately.

    A few steps of the power method on the residuals, of shape (n_samples, n_features),
    from the coordinate of most energy. Returns unit vectors of shape (n_clusters,
    n_features), zero for a cluster without energy.
    """
    energies = cluster_sums(residuals**2, row_weights, labels, n_clusters)
    axes = np.zeros_like(energies)
    axes[np.arange(n_clusters), np.argmax(energies, axis=1)] = 1
    axes[~energies.any(axis=1)] = 0
    for _ in range(_N_STEPS):
        along = np.einsum("ij,ij->i", residuals, axes[labels])
        axes = cluster_sums(residuals, row_weights * along, labels, n_clusters)
        lengths = np.linalg.norm(axes, axis=1, keepdims=True)
        axes /= np.where(lengths > 0, lengths, 1)
    return axes


def cut_clusters(X, row_weights, labels, centers):
    """Cut all clusters in two; the centres are their weighted means.

    Equal rows stay together, and a cluster of equal rows gains nothing.
    """
    n_clusters = len(centers)
    residuals = X - centers[labels]
    axes = principal_axes(residuals, row_weights, labels, n_clusters)
    above = np.einsum("ij,ij->i", residuals, axes[labels]) > 0
    weights = np.empty((n_clusters, 2))
    sums = np.empty((n_clusters, 2, X.shape[1]))
    for side in (0, 1):
        own = row_weights * (above == side)
        weights[:, side] = np.bincount(labels, own, minlength=n_clusters)
        sums[:, side] = cluster_sums(residuals, own, labels, n_clusters)
    means = sums / np.where(weights > 0, weights, 1)[:, :, np.newaxis]
    gains = np.einsum("cs,csj->c", weights, means**2)
    gains[(weights == 0).any(axis=1)] = 0
    return Cut(above, weights, centers[:, np.newaxis] + means, gains)
