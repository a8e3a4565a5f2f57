"""Centres move from clusters that can be merged to clusters that are worth a split."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from kprojclust._geometry.axes import cut_clusters

_TINY = np.finfo(float).tiny


def move_centers(X, row_weights, labels, centers, caution=1.0):
    """Centres after the moves that lower the objective, and the number of moves.

    A move dissolves one cluster into its nearest neighbour, whose centre becomes the
    mean of both, and gives the centre that is free to a cluster that is cut in two. No
    cluster takes part in two moves. Empty clusters cost nothing and go first.

    Parameters
    ----------
    X, row_weights, labels
        Rows of shape (n_samples, n_features), their weights and clusters.
    centers : ndarray of shape (n_clusters, n_features)
        Weighted means of the clusters.
    caution : float in [0, 1]
        Least gain of a move, as a share of its cost with fixed labels. With 1 the
        objective never rises.
    """
    cut = cut_clusters(X, row_weights, labels, centers)
    weights = cut.weights.sum(axis=1)
    neighbors, costs = _dissolutions(centers, weights)
    dissolved, donors = _moves(neighbors, caution * costs, cut.gains)
    merged = np.stack([dissolved, neighbors[dissolved]])
    shares = weights[merged] / np.maximum(weights[merged].sum(axis=0), _TINY)
    centers = centers.copy()
    centers[merged[1]] = np.einsum("mi,mij->ij", shares, centers[merged])
    centers[donors], centers[dissolved] = cut.centers[donors].swapaxes(0, 1)
    return centers, len(dissolved)


def _dissolutions(centers, weights):
    """Nearest other cluster of each, and by how much the objective rises as they merge.

    That is Ward's criterion. It is zero for empty clusters, which need no neighbor.
    """
    neighbors, costs = np.arange(len(centers)), np.zeros(len(centers))
    alive = np.flatnonzero(weights > 0)
    if len(alive) == 1:
        costs[alive] = np.inf
        return neighbors, costs
    search = NearestNeighbors(n_neighbors=1).fit(centers[alive])
    distances, places = search.kneighbors()  # each center but itself
    neighbors[alive] = alive[places[:, 0]]
    own, other = weights[alive], weights[neighbors[alive]]
    costs[alive] = own * other / (own + other) * distances[:, 0] ** 2
    return neighbors, costs


def _moves(neighbors, costs, gains):
    """Clusters to dissolve, and for each one to cut, in descending order of gain."""
    taken = np.zeros(len(gains), bool)
    donors = np.argsort(-gains, kind="stable").tolist()
    pairs = []
    for cluster in np.argsort(costs, kind="stable").tolist():
        neighbor = neighbors[cluster]
        if taken[cluster] or taken[neighbor]:
            continue
        while donors and taken[donors[0]]:
            donors.pop(0)
        others = (c for c in donors if not taken[c] and c not in (cluster, neighbor))
        donor = next(others, None)
        if donor is None or gains[donor] <= costs[cluster]:
            break
        taken[[cluster, neighbor, donor]] = True
        pairs.append((cluster, donor))
    return np.array(pairs, dtype=np.intp).reshape(-1, 2).T
