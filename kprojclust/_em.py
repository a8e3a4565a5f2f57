"""One run of K-subspaces from one start. Knows no estimator."""

import time
from typing import NamedTuple

import numpy as np

from kprojclust._lewis import lewis_row_weights
from kprojclust._problem import assign, own_distances, stored_numbers
from kprojclust._refit import refit, refit_minkowski
from kprojclust._splitting import fill_clusters
from kprojclust._subspaces import dimensions_of, squared_distances
from kprojclust.losses import LqLoss, SquaredLoss


class Run(NamedTuple):
    """Where one run ended."""

    labels: np.ndarray
    residuals: np.ndarray
    flats: list
    price: float
    loss_curve: list
    converged: bool


def run_em(problem, labels, *, max_iter, tol, row_weights=None, verbose=0):
    """Alternate refitting the flats and reassigning the rows.

    One majorise-minimise step per iteration: the flats minimise the weighted squared
    distances, with weights that majorise the loss at the last residuals, so an
    iteration of any loss costs what one of the squared loss costs.

    Parameters
    ----------
    problem : Problem
    labels : ndarray of shape (n_samples,)
        The start.
    max_iter : int
    tol : float
        Relative decrease of the objective below which the run has converged.
    row_weights : ndarray of shape (n_samples,), optional
        Weights of the rows in the first refit.
    verbose : int

    Returns
    -------
    run : Run
        ``labels`` are always those of assigning the rows to the returned flats.
    """
    loss_curve: list = []
    flats: list = []
    start = labels
    if row_weights is None:
        row_weights = start_weights(problem, labels)
    began = time.perf_counter()
    for iteration in range(max_iter):
        if not flats or problem.p == 2:
            flats, price = refit(problem, start, row_weights)
        else:
            flats = refit_minkowski(problem, flats, start, row_weights)
        found = assign(problem, flats, price)
        loss_curve.append(found.objective)
        row_weights = majorising_weights(problem, found.residuals)
        refilled = _fill(problem, flats, found, row_weights)
        if verbose:
            _print_progress(iteration, found, start, flats, began)
        converged = _has_converged(problem, loss_curve, start, found, refilled, tol)
        if converged:
            break
        start = refilled
    run = Run(found.labels, found.residuals, flats, price, loss_curve, converged)
    return _within_budget(problem, run)


def start_weights(problem, labels):
    """Row weights of the first refit: with Lewis weights for l_q losses."""
    if not isinstance(problem.loss, LqLoss) or problem.loss.q == 2:
        return problem.sample_weight
    weights = problem.sample_weight.copy()
    for c in range(len(problem.n_components)):
        rows = np.flatnonzero(labels == c)
        X = problem.X[rows]
        if problem.affine and len(rows):
            X = X - np.median(X, axis=0)
        weights[rows] *= lewis_row_weights(X, problem.loss.q)
    return weights


def majorising_weights(problem, residuals):
    """Sample weights times the slopes of the loss over the squared residuals."""
    weights = problem.loss.weights(residuals)
    return (problem.sample_weight * weights).astype(problem.X.dtype, copy=False)


def _fill(problem, flats, found, row_weights):
    """Labels with empty and starved clusters filled; under a budget they may be so."""
    if problem.max_parameters is not None:
        return found.labels
    squared = found.residuals**2
    if problem.p != 2:
        distances = squared_distances(problem.X, flats)
        squared = own_distances(distances, found.labels)
    return fill_clusters(
        problem.X,
        row_weights,
        found.labels,
        squared,
        dimensions_of(flats),
        problem.affine,
    )


def _has_converged(problem, loss_curve, start, found, refilled, tol):
    """A fixed point, or a decrease by no more than tol with no cluster empty."""
    exact = isinstance(problem.loss, SquaredLoss) and problem.p == 2
    if exact and np.array_equal(refilled, start):
        return True
    newly_filled = np.setdiff1d(refilled, found.labels)
    settled = len(loss_curve) > 1 and (
        loss_curve[-2] - loss_curve[-1] <= tol * loss_curve[-2]
    )
    return settled and not len(newly_filled)


def _within_budget(problem, run):
    """The run, with directions given up if its last assignment broke the budget."""
    if problem.max_parameters is None:
        return run
    limit = problem.max_parameters
    while True:
        excess = stored_numbers(run.labels, run.flats, problem.affine) - (
            problem.max_parameters
        )
        if excess <= 0:
            return run
        limit -= excess
        weights = majorising_weights(problem, run.residuals)
        tighter = problem._replace(max_parameters=limit)
        flats, price = refit(tighter, run.labels, weights)
        found = assign(problem, flats, price)
        run = run._replace(
            labels=found.labels,
            residuals=found.residuals,
            flats=flats,
            price=price,
            loss_curve=[*run.loss_curve, found.objective],
        )


def _print_progress(iteration, found, start, flats, began):
    n_moved = np.count_nonzero(found.labels != start)
    n_empty = len(flats) - len(np.unique(found.labels))
    seconds = time.perf_counter() - began
    print(  # noqa: T201
        f"iteration {iteration + 1}: objective {found.objective:.6g}, {n_moved} rows "
        f"moved, {n_empty} clusters empty, {seconds:.2f} s"
    )
