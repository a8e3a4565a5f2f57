"""One run of K-subspaces from one start. Knows no estimator, and no kind of rows."""

import time
from typing import Any, NamedTuple

import numpy as np

from kprojclust._engine.assignment import (
    Criterion,
    assignment_step,
    has_constant_weights,
    totals_of_labels,
)
from kprojclust._engine.empty_clusters import Pool, is_same, plan_fill
from kprojclust._engine.lewis import lewis_start
from kprojclust._engine.members import Members
from kprojclust._engine.problem import refits_from_rows, stored_numbers
from kprojclust._engine.scatter import Scatter, has_few_directions
from kprojclust._engine.update import refit, refit_minkowski
from kprojclust._geometry.subspaces import fix_signs

# A partial pass reassigns this share of the rows, those with the smallest gaps. Partial
# passes go on while the objective falls by so many times the tolerance, up to a limit.
_PARTIAL_SHARE = 1 / 8
_PATIENCE = 12
_MAX_PARTIAL_PASSES = 10


class Run(NamedTuple):
    """Where one run ended."""

    state: Any  # RowState, in the form of the engine of the rows
    totals: Any  # Totals, over all rows
    flats: list
    price: float
    loss_curve: list
    converged: bool
    statistics: Any  # of the clusters: Scatter or Members


def run_em(problem, start, pool=None, *, max_iter, tol, shortcuts=True, verbose=0):
    """Alternate refitting the flats and reassigning the rows.

    One majorise-minimise step per iteration: the flats minimise the weighted squared
    distances, with weights that majorise the loss at the last residuals, so an
    iteration of any loss costs what one of the squared loss costs.

    Parameters
    ----------
    problem : Problem
    start : ndarray of shape (n_samples,) or list of Flat
        Labels, or flats.
    pool : Pool, optional
        None is all rows, which then must be in memory.
    max_iter : int
    tol : float
        Relative decrease of the objective below which the run has converged.
    shortcuts : bool
        Whether iterations before the last may use approximate refits and partial
        passes. Without, the run takes the steps of a plain loop.
    verbose : int

    Returns
    -------
    run : Run
        Its labels are the nearest of the returned flats.
    """
    descent = _Descent(problem, pool, shortcuts)
    descent.begin(start)
    loss_curve: list = []
    began = time.perf_counter()
    approximate, converged, max_gap = descent.allows_approximate_refits(), False, np.inf
    for iteration in range(max_iter):
        last = iteration == max_iter - 1
        exact = not approximate or iteration == 0 or last
        descent.refit() if exact else descent.improve()
        loss_curve.append(descent.reassign(max_gap))
        if verbose:
            _print_progress(loss_curve, descent.totals, max_gap, began)
        settled = descent.is_fixed() or descent.has_settled(loss_curve, tol)
        converged = settled and exact and max_gap == np.inf
        if converged:
            break
        if settled and max_gap == np.inf:
            approximate = False
        elif iteration < max_iter - 2:
            max_gap = descent.next_max_gap(max_gap, loss_curve, tol)
        else:
            max_gap = np.inf
    loss_curve = descent.back_to_best(loss_curve)
    loss_curve += descent.keep_within_budget()
    return descent.run(loss_curve, converged)


class _Descent:
    """The state of a run: rows, statistics of their clusters, flats."""

    def __init__(self, problem, pool, shortcuts):
        self.problem, self.shortcuts = problem, shortcuts
        self.pool = pool or Pool.of_all(problem.rows)
        self.statistics = _statistics(problem, self.pool)
        self.flats: list = []
        self.price = 0.0
        self.fill = self.fill_before = None
        self.n_partial = 0  # partial passes since the last full one
        self.best = None  # objective, and the state that had it

    def begin(self, start):
        """Labels and second moments of the start."""
        rows, statistics = self.problem.rows, self.statistics
        collect, origin = statistics.collect_first, statistics.origin
        if isinstance(start, list):
            self.flats = start
            state = rows.begin(None, None)
            self.state, self.totals = rows.map_reduce(
                assignment_step, state, start, self._criterion(), collect, origin
            )
        else:
            weights = lewis_start(self.problem, start)
            state = rows.begin(start.astype(np.int32), weights)
            self.state, self.totals = rows.map_reduce(
                totals_of_labels, state, self.problem.n_clusters, collect, origin
            )
        statistics.update(self.state, self.totals)

    def allows_approximate_refits(self):
        """Whether an approximate refit is much faster than an exact one."""
        few = has_few_directions(self.problem.n_components, self.problem.n_features)
        return self._allows_shortcuts() and bool(np.any(few))

    def allows_partial_passes(self):
        """Whether rows are many, and their objective follows from the statistics."""
        many = len(self.pool.rows) < len(self.problem.rows)
        constant = has_constant_weights(self.problem.loss)
        return self._allows_shortcuts() and many and constant

    def _allows_shortcuts(self):
        free = self.problem.max_parameters is None
        return self.shortcuts and free and isinstance(self.statistics, Scatter)

    def refit(self):
        """Update step: the best flats for the clusters."""
        self._apply_fill()
        problem, statistics = self.problem, self.statistics
        if problem.p != 2 and self.flats:
            weights = problem.rows.sample_weight
            self.flats = refit_minkowski(problem, statistics, weights, self.flats)
        else:
            self.flats, self.price = refit(problem, statistics, self.totals.sizes)

    def improve(self):
        """Update step with approximate flats, which are faster to find."""
        self._apply_fill()
        self.flats = self.statistics.improved(self.flats)

    def next_max_gap(self, max_gap, loss_curve, tol):
        """Gap below which rows are reassigned in the next iteration.

        A full pass is followed by partial ones while they lower the objective.
        """
        if not self.allows_partial_passes():
            return np.inf
        if max_gap == np.inf:
            self.n_partial = 0
            gaps = self.problem.rows.at(self.state, self.pool.indices).gaps
            return np.quantile(gaps, _PARTIAL_SHARE)
        self.n_partial += 1
        enough = self.totals.n_moved == 0 or self.n_partial == _MAX_PARTIAL_PASSES
        pays = not (enough or self.has_settled(loss_curve, _PATIENCE * tol))
        return max_gap if pays else np.inf

    def reassign(self, max_gap=np.inf):
        """Assignment step; returns the objective."""
        statistics = self.statistics
        self.state, self.totals = self.problem.rows.map_reduce(
            assignment_step,
            self.state,
            self.flats,
            self._criterion(),
            statistics.collect,
            statistics.origin,
            max_gap if self.allows_partial_passes() else None,
        )
        statistics.update(self.state, self.totals)
        self.fill_before = self.fill
        self.fill = plan_fill(
            self.problem, self.pool, self.state, self.totals, self.flats
        )
        if max_gap == np.inf:
            self._remember()
            return self.totals.objective
        left_over = statistics.left_over(self.flats)
        # Too small to be known without the distances of all rows.
        return left_over if left_over > statistics.resolution() else self.reassign()

    def _remember(self):
        """Keep the best state where rounding of uneven weights may end the descent."""
        if self.problem.max_parameters is None and not has_constant_weights(
            self.problem.loss
        ):
            objective = self.totals.objective
            if self.best is None or objective < self.best[0]:
                self.best = objective, self.state, self.totals, self.flats

    def back_to_best(self, loss_curve):
        """Return to the best state if a later one is worse; the curve up to it."""
        if self.best is None or loss_curve[-1] <= self.best[0]:
            return loss_curve
        objective, self.state, self.totals, self.flats = self.best
        self.statistics.update(self.state, self.totals)
        return loss_curve[: loss_curve.index(objective) + 1]

    def is_fixed(self):
        """Whether no label changed, rows aside that went back from starved clusters."""
        if not has_constant_weights(self.problem.loss) or self.problem.p != 2:
            return False
        n_returned = len(self.fill.indices) if self.fill else 0
        moved = self.totals.n_moved - n_returned
        return is_same(self.fill, self.fill_before) and moved == 0

    def has_settled(self, loss_curve, tol):
        """Whether the objective fell by no more than tol, with no cluster empty."""
        if len(loss_curve) < 2:
            return False
        if self.fill and np.any(self.totals.sizes[self.fill.labels] == 0):
            return False
        return loss_curve[-2] - loss_curve[-1] <= tol * loss_curve[-2]

    def keep_within_budget(self):
        """Refit with fewer directions while the labels break the budget.

        Returns the objective after each refit.
        """
        losses: list = []
        allowed = limit = self.problem.max_parameters
        while allowed is not None:
            stored = stored_numbers(self.totals.sizes, self.flats, self.problem.affine)
            if stored <= allowed:
                break
            limit -= stored - allowed
            self.problem = self.problem._replace(max_parameters=limit)
            self.refit()
            losses.append(self.reassign())
        return losses

    def run(self, loss_curve, converged):
        """Where the run ended."""
        return Run(
            self.state,
            self.totals,
            [fix_signs(flat) for flat in self.flats],
            self.price,
            loss_curve,
            converged,
            self.statistics,
        )

    def _criterion(self):
        return Criterion(self.problem.loss, self.problem.p, self.price)

    def _apply_fill(self):
        if self.fill is None:
            return
        self.state = self.problem.rows.relabel(
            self.state, self.fill.indices, self.fill.labels
        )
        self.statistics.move(self.state, self.fill)


def _statistics(problem, pool):
    """Sufficient statistics: second moments, or the rows if these are fewer numbers."""
    if refits_from_rows(problem.rows.shape, problem.n_clusters, problem.p):
        return Members(problem.rows.X, problem.n_clusters, problem.affine)
    return Scatter(
        problem.n_clusters,
        problem.n_features,
        problem.rows.dtype,
        pool.rows.X.mean(axis=0) if problem.affine else None,
        has_constant_weights(problem.loss),
    )


def _print_progress(loss_curve, totals, max_gap, began):
    n_empty = np.count_nonzero(totals.sizes == 0)
    seconds = time.perf_counter() - began
    print(  # noqa: T201
        f"iteration {len(loss_curve)}: objective {loss_curve[-1]:.6g}, "
        f"{totals.n_moved} rows moved, {n_empty} clusters empty, {seconds:.2f} s"
        f"{'' if max_gap == np.inf else ', part of the rows'}"
    )
