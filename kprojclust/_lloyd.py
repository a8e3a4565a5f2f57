"""Lloyd's loop for centres. What becomes of empty clusters is another file's affair."""

from typing import NamedTuple

import numpy as np
from sklearn import config_context
from sklearn.metrics import pairwise_distances_argmin_min


class Problem(NamedTuple):
    """What is clustered."""

    X: np.ndarray  # (n_samples, n_features)
    row_weights: np.ndarray  # (n_samples,)

    def sample(self, n_rows, random_state):
        """So many rows of it at random, in their order; of positive weight first."""
        order = random_state.permutation(len(self.X))
        order = order[np.argsort(self.row_weights[order] == 0, kind="stable")]
        rows = np.sort(order[:n_rows])
        return Problem(self.X[rows], self.row_weights[rows])


class State(NamedTuple):
    """Rows dealt out to the centres nearest to them."""

    centers: np.ndarray  # (n_clusters, n_features)
    labels: np.ndarray  # (n_samples,)
    squared: np.ndarray  # (n_samples,) squared distances to the own centre
    weights: np.ndarray  # (n_clusters,) of the rows of each
    objective: float

    @property
    def empty(self):
        """Clusters without weight."""
        return np.flatnonzero(self.weights == 0)


class Iteration(NamedTuple):
    """What happened in an iteration."""

    n_empty_before: int
    n_empty_after: int
    n_rounds: int
    n_e_steps: int
    objective: float


class Run(NamedTuple):
    """Where the loop ended."""

    state: State
    history: list
    converged: bool
    gave_up: bool


def nearest_centers(X, centers):
    """Nearest centre of each row, and its squared distance."""
    with config_context(assume_finite=True):
        return pairwise_distances_argmin_min(X, centers, metric="sqeuclidean")


def assign(problem, centers):
    """The E-step."""
    labels, squared = nearest_centers(problem.X, centers)
    weights = np.bincount(labels, problem.row_weights, minlength=len(centers))
    objective = float(problem.row_weights @ squared.astype(np.float64))
    return State(centers, labels, squared, weights, objective)


def run_lloyd(problem, centers, policy, random_state, *, max_iter, tol):
    """Alternate moving the centres and dealing out the rows.

    A step that raises the objective is taken back, and none is risked any more.

    Parameters
    ----------
    problem : Problem
    centers : ndarray of shape (n_clusters, n_features)
        Where to start.
    policy : object
        Of :mod:`kprojclust._empty_clusters`.
    random_state : RandomState
    max_iter : int
    tol : float
        Relative decrease of the objective below which the loop has converged.

    Returns
    -------
    run : Run
    """
    best, caution, history = None, policy.caution, []
    while len(history) < max_iter:
        state = assign(problem, centers)
        filled = policy.fill(problem, state, random_state)
        n_before, n_after = len(state.empty), len(filled.state.empty)
        state, row = filled.state, filled[1:3]
        history.append(Iteration(n_before, n_after, *row, state.objective))
        if filled.gave_up:
            return Run(_better(state, best), history, False, True)
        settled = best and best.objective - state.objective <= tol * best.objective
        best = _better(state, best)
        if settled and caution == 1:
            return Run(best, history, True, False)
        if settled:
            caution = 1.0
        centers = policy.refit(problem, best, caution)
    return Run(best, history, False, False)


def _better(state, best):
    return state if best is None or state.objective < best.objective else best
