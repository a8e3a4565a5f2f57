"""Weighted sums and means of the rows of clusters."""

import numpy as np
from scipy import sparse


def cluster_sums(X, row_weights, labels, n_clusters):
    """Weighted sums of the rows of each cluster, float64: (n_clusters, n_features)."""
    n_samples = len(X)
    entries = row_weights.astype(np.float64), labels, np.arange(n_samples + 1)
    members = sparse.csc_array(entries, shape=(n_clusters, n_samples))
    return members @ X


def cluster_means(X, row_weights, labels, centers):
    """Weighted means of the clusters, of shape and dtype of the centres.

    A cluster without weight keeps its centre.
    """
    n_clusters = len(centers)
    weights = np.bincount(labels, row_weights, minlength=n_clusters)[:, np.newaxis]
    sums = cluster_sums(X, row_weights, labels, n_clusters)
    means = np.divide(sums, weights, out=centers.astype(np.float64), where=weights > 0)
    return means.astype(centers.dtype)
