"""Empty clusters are filled by splitting the cluster that is served worst."""

import numpy as np

from kprojclust._subspaces import fit_subspace, squared_distances


def fill_empty_clusters(X, sample_weight, labels, costs, n_components):
    """Labels in which empty clusters took over half of the costliest clusters.

    The donor is the cluster of largest weighted cost. Its rows are cut at the weighted
    median of the share of their energy along the dominant direction of the residuals.
    A cluster without cost has nothing to gain and is never split, so clusters can stay
    empty where there are fewer distinct subspaces than clusters. With both halves
    refitted the objective does not rise.

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
    empty = list(np.flatnonzero(sizes == 0))
    if not empty:
        return labels
    filled, costs = labels.copy(), sample_weight * costs
    donors = _worth_splitting(X, sample_weight, labels, costs, n_clusters)
    while empty and donors.any():
        cluster_costs = np.bincount(filled, costs, minlength=n_clusters)
        donor = int(np.argmax(np.where(donors, cluster_costs, -1)))
        members = np.flatnonzero((filled == donor) & (sample_weight > 0))
        moved = _far_half(X[members], sample_weight[members], n_components[donor])
        donors[donor] = moved.any()
        if not moved.any():
            continue
        heir = empty.pop(0)
        donors[heir] = True
        filled[members[moved]] = heir
        for cluster in (donor, heir):
            rows = members[moved] if cluster == heir else members[~moved]
            costs[rows] = _refit_costs(
                X[rows], sample_weight[rows], n_components[cluster]
            )
    return filled if np.any(filled != labels) else labels


def _worth_splitting(X, sample_weight, labels, costs, n_clusters):
    """Clusters whose cost exceeds the rounding noise of their energy."""
    energies = np.bincount(
        labels, sample_weight * np.einsum("ij,ij->i", X, X), minlength=n_clusters
    )
    noise = 100 * X.shape[1] * float(np.finfo(X.dtype).eps) ** 2
    return np.bincount(labels, costs, minlength=n_clusters) > noise * energies


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
    above = share > median
    return above if above.any() else share == median if share.min() < median else above


def _refit_costs(X, sample_weight, n_components):
    """Weighted squared distances of the rows to the subspace fitted to them."""
    basis = fit_subspace(X, sample_weight, n_components)
    return sample_weight * squared_distances(X, [basis])[:, 0]
