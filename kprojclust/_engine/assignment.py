"""The assignment step on a block of rows, and the sufficient statistics it collects.

These functions see a block and its state only, so that any engine can apply them.
"""

from typing import Any, NamedTuple

import numpy as np

from kprojclust._engine.moments import Moments
from kprojclust._engine.problem import majorising_weights
from kprojclust._geometry.distances import (
    chunk_distances,
    chunks,
    distances_to_flats,
    stack_flats,
)
from kprojclust._geometry.subspaces import dimensions_of
from kprojclust._parallel.threads import own_threads, parallel_map
from kprojclust._rows.state import RowState, is_constant
from kprojclust.losses import SquaredLoss


class Totals(NamedTuple):
    """Sums over rows."""

    objective: float
    n_moved: int  # rows with a new label
    sizes: np.ndarray  # (n_clusters,) rows
    members: np.ndarray  # (n_clusters,) rows with a weight
    weights: np.ndarray  # (n_clusters,) sample weight
    moments: Moments  # of the clusters, or their change

    def __add__(self, other):  # type: ignore[override]
        """Of the rows of both."""
        return Totals(
            self.objective + other.objective,
            self.n_moved + other.n_moved,
            self.sizes + other.sizes,
            self.members + other.members,
            self.weights + other.weights,
            self.moments + other.moments,
        )


class Criterion(NamedTuple):
    """The cost by which a row is assigned to a flat."""

    loss: Any
    p: float
    price: float  # of each coordinate; 0 without a budget


def nearest_flats(X, sample_weight, flats, criterion, rows=None, with_gaps=False):
    """Cluster of each row, its residual, and its gap: three arrays of shape (n_rows,).

    A row is assigned to the cluster of least w rho(distance) plus the price of its
    coordinates, which without a price is the nearest one. Ties go to the lowest label.
    ``rows`` are the indices of the rows to assign, None is all. Gaps, 1 - residual /
    distance to the next best flat, are zeros unless asked for.
    """
    stack = stack_flats(flats)
    dimension_costs = criterion.price * dimensions_of(flats)
    n_rows = len(X) if rows is None else len(rows)
    labels = np.empty(n_rows, dtype=np.int32)
    residuals, gaps = np.zeros((2, n_rows), dtype=X.dtype)

    def assign(chunk):
        here = chunk if rows is None else rows[chunk]
        costs = distances = chunk_distances(X[here], stack, criterion.p)
        if criterion.price:
            costs = sample_weight[here] * criterion.loss.rho(distances)
            costs = costs + dimension_costs[:, np.newaxis].astype(costs.dtype)
        labels[chunk], residuals[chunk] = _first_smallest(costs)
        if criterion.price:
            residuals[chunk] = distances[labels[chunk], np.arange(len(labels[chunk]))]
        if with_gaps:
            gaps[chunk] = _gaps(distances, labels[chunk], residuals[chunk])

    parallel_map(assign, chunks(n_rows, stack))
    return labels, residuals, gaps


def _first_smallest(costs):
    """Index and value of the smallest entry of each column.

    Much faster than argmin, which does not vectorise along columns.
    """
    least = costs.min(axis=0)
    # The lower the index, the larger its rank.
    ranks = np.arange(len(costs), 0, -1, dtype=np.int32)[:, np.newaxis]
    return len(costs) - (ranks * (costs == least)).max(axis=0, initial=1), least


def _gaps(distances, labels, residuals):
    """1 - residual / distance to the next best flat; overwrites its input."""
    if len(distances) == 1:
        return np.ones_like(residuals)
    distances[labels, np.arange(len(labels))] = np.inf
    other = distances.min(axis=0)
    return 1 - residuals / np.where(other > 0, other, 1)


def nearest_labels(X, sample_weight, flats, criterion):
    """The labels of `nearest_flats` alone, for a block from any engine."""
    with own_threads(X.size):
        return nearest_flats(X, sample_weight, flats, criterion)[0]


def all_distances(X, sample_weight, flats, p):
    """Distances of a block from any engine: shape (n_samples, n_clusters)."""
    with own_threads(X.size):
        return distances_to_flats(X, flats, p)


def assignment_step(X, state, flats, criterion, collect, origin, max_gap=None):
    """Assign the rows of a block to their best flats: its new state, and Totals.

    Rows whose gap was not below ``max_gap`` keep their labels. None reassigns all rows
    and computes no gaps. ``collect`` is a function of `kprojclust._engine.moments`, and
    ``origin`` that of the moments, of shape (n_features,) or None.
    """
    with own_threads(X.size):
        after = _reassigned(X, state, flats, criterion, max_gap)
        moments = collect(X, state, after, len(flats), origin)
    return after, _totals(state, after, len(flats), criterion.loss, moments)


def _reassigned(X, state, flats, criterion, max_gap):
    weights = state.sample_weight
    if max_gap is not None and max_gap < np.inf:
        rows = np.flatnonzero(state.gaps < max_gap)
        found = nearest_flats(X, weights, flats, criterion, rows, with_gaps=True)
        old = state.labels, state.residuals, state.gaps
        labels, residuals, gaps = (
            _replaced(part, rows, new) for part, new in zip(old, found, strict=True)
        )
    else:
        labels, residuals, gaps = nearest_flats(
            X, weights, flats, criterion, with_gaps=max_gap is not None
        )
    row_weights = state.row_weights
    if not has_constant_weights(criterion.loss):
        row_weights = majorising_weights(weights, criterion.loss, residuals)
    return RowState(weights, labels, residuals, gaps, row_weights)


def _replaced(part, rows, new):
    part = part.copy()
    part[rows] = new
    return part


def totals_of_labels(X, state, n_clusters, collect, origin):
    """Totals of a block whose labels are given; its objective is 0."""
    with own_threads(X.size):
        moments = collect(X, state, state, n_clusters, origin)
    return state, _totals(state, state, n_clusters, None, moments)


def has_constant_weights(loss):
    """Whether the row weights are the sample weights, whatever the residuals."""
    return isinstance(loss, SquaredLoss)


def _totals(before, after, n_clusters, loss, moments):
    labels, weights = after.labels, after.sample_weight
    objective = 0.0
    if loss is not None:
        objective = float(weights @ loss.rho(after.residuals).astype(np.float64))
    sizes = members = totals = np.bincount(labels, minlength=n_clusters)
    if not is_constant(weights):
        members = np.bincount(labels[weights > 0], minlength=n_clusters)
        totals = np.bincount(labels, weights, minlength=n_clusters)
    n_moved = int(np.count_nonzero(before.labels != labels))
    return Totals(objective, n_moved, sizes, members, totals, moments)
