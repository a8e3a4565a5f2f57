"""Empty and starved clusters take over rows of the cluster of largest cost."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.extmath import row_norms

from kprojclust._geometry.axes import principal_axes
from kprojclust._geometry.distances import squared_distances
from kprojclust._geometry.subspaces import dimensions_of, fit_flat, residuals


class Pool(NamedTuple):
    """Rows in memory from which starved clusters are filled."""

    rows: Any  # LocalRows
    indices: np.ndarray  # of these rows among all, sorted

    @classmethod
    def of_all(cls, rows):
        """All rows, which are in memory."""
        return cls(rows, np.arange(len(rows)))


class Fill(NamedTuple):
    """Rows of the pool with new labels."""

    indices: np.ndarray  # (n_rows,) among all rows
    X: np.ndarray  # (n_rows, n_features)
    row_weights: np.ndarray  # (n_rows,)
    old_labels: np.ndarray  # (n_rows,)
    labels: np.ndarray  # (n_rows,)


def plan_fill(problem, pool, state, totals, flats):
    """Fill of the starved clusters from the pool, None if nothing changes.

    The state is in the form of the engine of the rows. Under a budget clusters may be
    empty.
    """
    dimensions = dimensions_of(flats)
    starved = starved_clusters(totals.members, dimensions, problem.affine)
    if problem.max_parameters is not None or not len(starved):
        return None
    X, state = pool.rows.X, problem.rows.at(state, pool.indices)
    squared = state.residuals**2
    if problem.p != 2:
        squared = squared_distances(X, flats)[np.arange(len(X)), state.labels]
    labels = fill_clusters(
        X, state.row_weights, state.labels, squared, dimensions, starved, problem.affine
    )
    changed = np.flatnonzero(labels != state.labels)
    if not len(changed):
        return None
    return Fill(
        pool.indices[changed],
        X[changed],
        state.row_weights[changed],
        state.labels[changed],
        labels[changed],
    )


def is_same(fill, other):
    """Whether both move the same rows to the same clusters, or none."""
    if fill is None or other is None:
        return fill is other
    return np.array_equal(fill.indices, other.indices) and np.array_equal(
        fill.labels, other.labels
    )


def fill_clusters(X, row_weights, labels, costs, n_components, starved, affine=False):
    """Labels in which starved clusters took over rows of clusters of large cost.

    Donors are tried in descending order of their weighted cost. An empty recipient gets
    the half of the donor's rows with the larger share of energy along the leading
    principal axis of the residuals. If it is not empty, or if that does not lower the
    cost once both clusters are refitted, it gets the rows of largest cost, as many as
    its flat can hold without error. Clusters stay empty only where fewer flats fit all
    rows without cost.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    row_weights : ndarray of shape (n_samples,)
        Rows of weight zero do not count as members.
    labels : ndarray of shape (n_samples,)
    costs : ndarray of shape (n_samples,)
        Squared distance of each row to the flat of its cluster.
    n_components : ndarray of shape (n_clusters,)
    starved : ndarray of int
        Clusters to fill.
    affine : bool

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        A new array if a cluster was filled, otherwise ``labels`` itself.
    """
    n_clusters = len(n_components)
    filled, costs = labels.copy(), row_weights * costs
    for recipient in starved:
        for donor in _donors(X, row_weights, filled, costs, n_clusters):
            rows = [
                np.flatnonzero((filled == c) & (row_weights > 0))
                for c in (donor, recipient)
            ]
            dimensions = n_components[[donor, recipient]]
            split = _split(X, row_weights, costs, rows, dimensions, affine)
            if split is not None:
                _, gained, costs = split
                filled[gained] = recipient
                break
    return filled if np.any(filled != labels) else labels


def starved_clusters(members, n_components, affine):
    """Clusters with fewer rows than their flat can hold without error."""
    return np.flatnonzero(members < n_components + affine)


def _donors(X, row_weights, labels, costs, n_clusters):
    """Clusters with more cost than rounding noise, those of largest cost first."""
    energies = row_weights * row_norms(X, squared=True)
    noise = 100 * X.shape[1] * float(np.finfo(X.dtype).eps) ** 2
    cluster_costs = np.bincount(labels, costs, minlength=n_clusters)
    worth = cluster_costs > noise * np.bincount(labels, energies, minlength=n_clusters)
    order = np.argsort(-cluster_costs, kind="stable")
    return order[worth[order]]


def _split(X, row_weights, costs, rows, n_components, affine):
    """Rows of donor and recipient, and all costs, after the first cut that lowers them.

    ``rows`` and ``n_components`` are those of the donor and of the recipient. Returns
    None if no cut helps.
    """
    donor, recipient = rows
    before = costs[donor].sum() + costs[recipient].sum()
    for given in _cuts(X, row_weights, costs, rows, n_components, affine):
        after = donor[~given], np.append(recipient, donor[given])
        new_costs = costs.copy()
        for members, dimension in zip(after, n_components, strict=True):
            flat = fit_flat(X[members], row_weights[members], dimension, affine)
            squared = squared_distances(X[members], [flat])[:, 0]
            new_costs[members] = row_weights[members] * squared
        if new_costs[after[0]].sum() + new_costs[after[1]].sum() < before:
            return *after, new_costs
    return None


def _cuts(X, row_weights, costs, rows, n_components, affine):
    """Yield masks of donor rows to move: half of them, then those of largest cost."""
    donor, recipient = rows
    if not len(recipient):
        half = _far_half(X[donor], row_weights[donor], n_components[0], affine)
        if half.any():
            yield half
    room = n_components[1] + affine - len(recipient)
    worst = np.argsort(-costs[donor], kind="stable")[
        : max(0, min(room, len(donor) - 1))
    ]
    few = np.zeros(len(donor), dtype=bool)
    few[worst] = True
    if few.any():
        yield few


def _far_half(X, row_weights, n_components, affine):
    """Mask of the rows above the weighted median along the residuals' leading axis."""
    flat = fit_flat(X, row_weights, n_components, affine)
    left = residuals(X, flat)
    axis = principal_axes(left, row_weights, np.zeros(len(X), np.intp), 1)[0]
    energies = row_norms(X - flat.mean, squared=True)
    share = (left @ axis) ** 2 / np.where(energies > 0, energies, 1)
    order = np.argsort(share, kind="stable")
    weight_below = np.cumsum(row_weights[order])
    median = share[order[np.searchsorted(weight_below, weight_below[-1] / 2)]]
    # Equal rows stay together: the cut never runs between equal shares.
    above = share > median
    return above if above.any() else (share == median) & (share.min() < median)
