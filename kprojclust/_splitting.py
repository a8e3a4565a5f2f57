"""Empty clusters are filled by splitting the cluster that is served worst."""

import numpy as np

from kprojclust._subspaces import fit_subspace, squared_distances


def fill_empty_clusters(X, sample_weight, labels, costs, n_components):
    """Labels in which empty clusters took over rows of the costliest clusters.

    Donors are tried from the largest weighted cost downwards. A donor gives away the
    half of its rows that has the larger share of its energy along the dominant
    direction of the residuals; or, where this would not lower the objective once both
    clusters are refitted, the few rows that are served worst, which the heir then
    serves exactly. A cluster without cost has nothing to gain, so clusters stay empty
    only where fewer subspaces than clusters serve all rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,)
        Rows of weight zero do not count as members.
    labels : ndarray of shape (n_samples,)
    costs : ndarray of shape (n_samples,)
        Squared distance of each row to the subspace of its cluster.
    n_components : ndarray of shape (n_clusters,)

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        A new array if a cluster was filled, otherwise ``labels`` itself.
    """
    n_clusters = len(n_components)
    sizes = np.bincount(labels[sample_weight > 0], minlength=n_clusters)
    empty = np.flatnonzero(sizes == 0)
    if not len(empty):
        return labels
    filled, costs = labels.copy(), sample_weight * costs
    for heir in empty:
        for donor in _donors(X, sample_weight, filled, costs, n_clusters):
            members = np.flatnonzero((filled == donor) & (sample_weight > 0))
            split = _split(
                X[members],
                sample_weight[members],
                costs[members],
                n_components[[donor, heir]],
            )
            if split is not None:
                given, costs[members] = split
                filled[members[given]] = heir
                break
    return filled if np.any(filled != labels) else labels


def _donors(X, sample_weight, labels, costs, n_clusters):
    """Clusters with more cost than rounding noise, those of largest cost first."""
    energies = sample_weight * np.einsum("ij,ij->i", X, X)
    noise = 100 * X.shape[1] * float(np.finfo(X.dtype).eps) ** 2
    cluster_costs = np.bincount(labels, costs, minlength=n_clusters)
    worth = cluster_costs > noise * np.bincount(labels, energies, minlength=n_clusters)
    order = np.argsort(-cluster_costs, kind="stable")
    return order[worth[order]]


def _split(X, sample_weight, costs, n_components):
    """Rows that a donor gives to an heir, and the costs once both are refitted.

    Returns None if no cut lowers the sum of the costs. ``n_components`` holds the
    dimensions of the donor and of the heir.
    """
    for given in _cuts(X, sample_weight, costs, n_components):
        new_costs = np.empty_like(costs)
        for rows, dimension in zip((~given, given), n_components, strict=True):
            basis = fit_subspace(X[rows], sample_weight[rows], dimension)
            distances = squared_distances(X[rows], [basis])[:, 0]
            new_costs[rows] = sample_weight[rows] * distances
        if new_costs.sum() < costs.sum():
            return given, new_costs
    return None


def _cuts(X, sample_weight, costs, n_components):
    """Yield masks of rows to give away: half of them, then the few served worst."""
    half = _far_half(X, sample_weight, n_components[0])
    if half.any():
        yield half
    worst = np.argsort(-costs, kind="stable")[: min(n_components[1], len(X) - 1)]
    few = np.zeros(len(X), dtype=bool)
    few[worst] = True
    if few.any():
        yield few


def _far_half(X, sample_weight, n_components):
    """Mask of the rows beyond the weighted median along the residuals' main axis."""
    basis = fit_subspace(X, sample_weight, n_components)
    residuals = X - (X @ basis.T) @ basis
    axis = fit_subspace(residuals, sample_weight, 1)[0]
    energies = np.einsum("ij,ij->i", X, X)
    share = (residuals @ axis) ** 2 / np.where(energies > 0, energies, 1)
    order = np.argsort(share, kind="stable")
    weight_below = np.cumsum(sample_weight[order])
    median = share[order[np.searchsorted(weight_below, weight_below[-1] / 2)]]
    # Equal rows stay together: the cut never runs between equal shares.
    above = share > median
    return above if above.any() else (share == median) & (share.min() < median)
