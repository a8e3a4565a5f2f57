"""Rows that move into starved clusters between two iterations."""

from typing import Any, NamedTuple

import numpy as np

from kprojclust._engine.splitting import fill_clusters, starved_clusters
from kprojclust._geometry.distances import squared_distances
from kprojclust._geometry.subspaces import dimensions_of


class Pool(NamedTuple):
    """Rows at hand in memory, from which starved clusters are filled."""

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
    """Rows that starved clusters should take over, None if there is no need or use.

    Parameters
    ----------
    problem : Problem
        Under a budget clusters may be empty.
    pool : Pool
    state : RowState
        In the form of the engine of the rows.
    totals : Totals
    flats : list of Flat
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
