"""Starts: functions (X, n_clusters, sample_weight, random_state) -> labels."""

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import normalize


def random_labels(X, n_clusters, sample_weight, random_state):
    """Split the rows at random into clusters of equal size."""
    return random_state.permutation(np.arange(len(X)) % n_clusters)


def spherical_kmeans_labels(X, n_clusters, sample_weight, random_state):
    """Cluster the directions of the rows: k-means on rows scaled to length one."""
    if n_clusters == 1:
        return np.zeros(len(X), dtype=np.intp)
    kmeans = KMeans(n_clusters, n_init=1, random_state=random_state)
    with warnings.catch_warnings():
        # Fewer distinct directions than clusters: the subspaces themselves decide
        # later whether that is worth a warning.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kmeans.fit(normalize(X), sample_weight=sample_weight).labels_


STARTS = {"k-means": spherical_kmeans_labels, "random": random_labels}
