"""Lloyd's algorithm, with a policy for empty clusters."""

from typing import NamedTuple

import numpy as np

from kprojclust._kmeans.nearest import nearest_centers


class Problem(NamedTuple):
    """What is clustered."""

    X: np.ndarray  # (n_samples, n_features)
    row_weights: np.ndarray  # (n_samples,)

    def sample(self, n_rows, random_state):
        """A random sample of the rows, in their order; positive weights first."""
        order = random_state.permutation(len(self.X))
        order = order[np.argsort(self.row_weights[order] == 0, kind="stable")]
        rows = np.sort(order[:n_rows])
        return Problem(self.X[rows], self.row_weights[rows])


class State(NamedTuple):
    """Rows assigned to their nearest centres."""

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


def assign(problem, centers):
    """The assignment step."""
    labels, squared = nearest_centers(problem.X, centers)
    weights = np.bincount(labels, problem.row_weights, minlength=len(centers))
    # A product of BLAS would wait for threads that scikit-learn's loop keeps busy.
    objective = float(np.sum(problem.row_weights * squared, dtype=np.float64))
    return State(centers, labels, squared, weights, objective)


def run_lloyd(problem, centers, policy, random_state, *, max_iter, tol):
    """Alternate update steps and assignment steps, from given centres.

    A step that raises the objective is undone, and later ones must not raise it. The
    policy is one of :mod:`kprojclust._kmeans.empty_clusters`; the run has converged
    where the relative decrease of the objective is at most ``tol``.
    """
    caution = policy.caution
    history: list[Iteration] = []
    best = _step(problem, centers, policy, random_state, history)
    gave_up = best.gave_up
    while not gave_up and len(history) < max_iter:
        centers = policy.refit(problem, best.state, caution)
        new = _step(problem, centers, policy, random_state, history)
        gave_up = new.gave_up
        decrease = best.state.objective - new.state.objective
        settled = decrease <= tol * best.state.objective
        best = new if decrease > 0 else best
        if settled and caution == 1 and not gave_up:
            return Run(best.state, history, True, False)
        caution = 1.0 if settled else caution
    return Run(best.state, history, False, gave_up)


def _step(problem, centers, policy, random_state, history):
    """Assign the rows, fill empty clusters, and append to the history."""
    found = assign(problem, centers)
    filled = policy.fill(problem, found, random_state)
    history.append(
        Iteration(
            len(found.empty),
            len(filled.state.empty),
            filled.n_rounds,
            filled.n_e_steps,
            filled.state.objective,
        )
    )
    return filled
