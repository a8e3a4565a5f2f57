"""Centres move from clusters that are missed least to those that gain most by two."""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from kprojclust._geometry.axes import cut_clusters

_TINY = np.finfo(float).tiny


def move_centers(X, row_weights, labels, centers, caution=1.0):
    """Centres after the moves that pay.

    A move dissolves one cluster into its nearest neighbour, whose centre becomes the
    mean of both, and gives the centre that is free to a cluster that is cut in two. No
    cluster takes part in two moves. Empty clusters cost nothing and go first.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    row_weights : ndarray of shape (n_samples,)
    labels : ndarray of shape (n_samples,)
    centers : ndarray of shape (n_clusters, n_features)
        Weighted means of the clusters.
    caution : float in [0, 1]
        What a move must gain, as a share of what it costs as long as all rows stay in
        the clusters they came to. With 1 the objective falls for certain.

    Returns
    -------
    centers : ndarray of shape (n_clusters, n_features)
    n_moved : int
    """
    cut = cut_clusters(X, row_weights, labels, centers)
    weights = cut.weights.sum(axis=1)
    heirs, costs = _dissolutions(centers, weights)
    victims, donors = _moves(heirs, caution * costs, cut.gains)
    merged = np.stack([victims, heirs[victims]])
    shares = weights[merged] / np.maximum(weights[merged].sum(axis=0), _TINY)
    centers = centers.copy()
    centers[merged[1]] = np.einsum("mi,mij->ij", shares, centers[merged])
    centers[donors], centers[victims] = cut.centers[donors].swapaxes(0, 1)
    return centers, len(victims)


def _dissolutions(centers, weights):
    """Nearest other cluster of each, and by how much the objective rises as they merge.

    That is Ward's criterion. It is zero for empty clusters, which need no heir.
    """
    heirs, costs = np.arange(len(centers)), np.zeros(len(centers))
    alive = np.flatnonzero(weights > 0)
    if len(alive) == 1:
        costs[alive] = np.inf
        return heirs, costs
    search = NearestNeighbors(n_neighbors=1).fit(centers[alive])
    distances, places = search.kneighbors()  # each center but itself
    heirs[alive] = alive[places[:, 0]]
    own, other = weights[alive], weights[heirs[alive]]
    costs[alive] = own * other / (own + other) * distances[:, 0] ** 2
    return heirs, costs


def _moves(heirs, costs, gains):
    """Clusters to dissolve, and for each one to cut, those that pay most first."""
    taken = np.zeros(len(gains), bool)
    donors = np.argsort(-gains, kind="stable").tolist()
    pairs = []
    for victim in np.argsort(costs, kind="stable").tolist():
        heir = heirs[victim]
        if taken[victim] or taken[heir]:
            continue
        while donors and taken[donors[0]]:
            donors.pop(0)
        others = (c for c in donors if not taken[c] and c not in (victim, heir))
        donor = next(others, None)
        if donor is None or gains[donor] <= costs[victim]:
            break
        taken[[victim, heir, donor]] = True
        pairs.append((victim, donor))
    return np.array(pairs, dtype=np.intp).reshape(-1, 2).T
