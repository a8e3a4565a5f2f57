"""Many starts: the scale of the loss, one run each, and exchanges between runs.

Where rows are many, the starts race on a sample of them, are judged on another one, and
only the winner goes on to all rows.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.extmath import row_norms

from kprojclust._engine.assignment import Criterion, nearest_flats
from kprojclust._engine.em import run_em
from kprojclust._engine.empty_clusters import Pool
from kprojclust._rows.blocks import draw_rows
from kprojclust._starts.exchange import exchange_clusters
from kprojclust._starts.relocation import relocate_clusters
from kprojclust.losses import LqLoss, check_loss, ready

# The median absolute deviation of a normal distribution is this share of its spread.
_MAD = 0.6745

# Rows of a sample: at least so many, and so many for each cluster.
_SAMPLE_ROWS = 4096
_ROWS_PER_CLUSTER = 400

# Rows of a sample for each direction of the flats that are fitted to it.
_ROWS_PER_DIRECTION = 40

# Up to this size a start that has no rivals is made from all rows.
_SMALL_BYTES = 2**27

# Starts, where their number is "auto".
_FEWEST_STARTS, _MOST_STARTS = 4, 10

# Starts that must lead to the same clusters before no more are tried, and the share of
# the rows that makes clusters the same.
ENOUGH = 3
_SAME = 0.99

# How far the runs of a race go, and what an exchange between them must gain.
_RACE = {"max_iter": 50, "tol": 1e-3}
_CLEAR_GAIN = 0.01


class Grounds(NamedTuple):
    """Where starts are tried, and where they are judged."""

    trial: Any  # Problem
    judge: Any  # Problem, on rows in memory
    pool: Pool  # rows of both

    def with_loss(self, loss):
        """The same with another loss."""
        trial, judge = (problem._replace(loss=loss) for problem in self[:2])
        return Grounds(trial, judge, self.pool)


def lay_out(problem, n_starts, random_state):
    """Grounds for a search: all rows if they are few, otherwise samples of them.

    Parameters
    ----------
    problem : Problem
    n_starts : int
        0 is a given start, which is tried on all rows, as is a single one if they are
        in memory and not too many.
    random_state : RandomState
    """
    rows, n_sampled = problem.rows, sample_size(problem.n_clusters)
    if not has_many_rows(problem):
        here = problem._replace(rows=rows.load())
        return Grounds(here, here, Pool.of_all(here.rows))
    # A given start leaves nothing to chance.
    random_state = random_state if n_starts else check_random_state(0)
    drawn = np.sort(draw_rows(rows.sample_weight, 2 * n_sampled, random_state))
    pool = Pool(rows.take(drawn), drawn)
    alone = n_starts == 1 and rows.in_memory and rows.nbytes <= _SMALL_BYTES
    if alone or n_starts == 0:
        return Grounds(problem, problem._replace(rows=pool.rows), pool)
    in_trial = random_state.permutation(len(drawn)) < len(drawn) // 2
    dimensions = _affordable(problem.n_components, n_sampled)
    trial, judge = (
        problem._replace(
            rows=pool.rows.take(np.flatnonzero(half)),
            n_components=dimensions,
            max_parameters=None,
        )
        for half in (in_trial, ~in_trial)
    )
    return Grounds(trial, judge, pool)


def sample_size(n_clusters):
    """Rows on which starts race, and rows that judge them."""
    return max(_SAMPLE_ROWS, _ROWS_PER_CLUSTER * n_clusters)


def has_many_rows(problem):
    """Whether there are more than enough rows for two samples."""
    return len(problem.rows) > 2 * sample_size(problem.n_clusters)


def _affordable(n_components, n_rows):
    """Dimensions, made smaller together until so few rows are enough for them."""
    share = n_rows / (_ROWS_PER_DIRECTION * np.sum(n_components + 1))
    smaller = np.floor(share * (n_components + 1)) - 1
    return np.minimum(n_components, np.maximum(smaller, 1)).astype(n_components.dtype)


def search(
    problem,
    grounds,
    starts,
    enough,
    n_relocations,
    *,
    max_iter,
    tol,
    shortcuts,
    verbose=0,
):
    """The best run over all starts.

    Parameters
    ----------
    problem : Problem
        Its loss may lack a tuning constant. All runs minimise the same objective.
    grounds : Grounds
    starts : iterable of ndarray of shape (n_samples,) or of list of Flat
        For the rows of the trial.
    enough : int or np.inf
        Runs that end at the same best clusters after which no more starts are tried.
    n_relocations : int
        Largest number of relocations of clusters at the end; without a budget only.
    max_iter, tol, shortcuts, verbose
        As of `run_em`.

    Returns
    -------
    problem : Problem
        With the loss that was used.
    run : Run
    """
    options = {"max_iter": max_iter, "tol": tol, "verbose": verbose}
    options["shortcuts"] = shortcuts
    if len(grounds.trial.rows) == len(problem.rows):
        problem = grounds.trial  # which may have loaded them
    # A part in a million of the length of a typical row: nothing, but not zero.
    least_scale = 1e-6 * _row_length(grounds.judge)
    if _needs_scale(problem.loss):
        problem, starts = _tuned(problem, grounds, starts, enough, least_scale, options)
        judge = problem._replace(rows=grounds.pool.rows)
        grounds = Grounds(problem, judge, grounds.pool)
    else:
        problem = _with_loss(problem, grounds.judge, least_scale)
    grounds = grounds.with_loss(problem.loss)
    runs = _runs(problem, grounds, starts, enough, n_relocations, options)
    return problem, _best_run(runs, grounds, n_relocations, options)


def _runs(problem, grounds, starts, enough, n_relocations, options):
    """Runs on all rows: of the winner of a race, or of every start."""
    trial, judge, pool = grounds
    if len(trial.rows) < len(problem.rows):
        starts = [_win_race(trial, judge, starts, enough, n_relocations)]
    runs = (
        run_em(problem, _settled(problem, start, pool), pool, **options)
        for start in starts
    )
    return _until_agreed(runs, enough)


def _until_agreed(runs, enough):
    """List of the runs until so many, the best among them, found the same clusters."""
    found = []
    for run in runs:
        found.append(run)
        best = min(found, key=_final_loss)
        if len(found) >= enough and sum(_same(best, r) for r in found) >= enough:
            break
    return found


def _same(run, other):
    """Whether nearly all rows are in the same clusters, whatever their names."""
    labels, other_labels = run.state.labels, other.state.labels
    names = np.zeros_like(labels, shape=len(run.flats))
    names[labels] = other_labels  # of one row of each cluster
    return np.mean(names[labels] == other_labels) >= _SAME


def _win_race(trial, judge, starts, enough, n_relocations):
    """Flats found on one sample of the rows that serve another one best.

    Only a clear gain is worth an exchange that no run follows.
    """
    runs = _until_agreed((run_em(trial, start, **_RACE) for start in starts), enough)
    runs.sort(key=lambda run: objective(judge, run.flats))
    flats = runs[0].flats
    for other in runs[1:]:
        flats = exchange_clusters(judge, flats, other.flats, _CLEAR_GAIN) or flats
    if n_relocations:
        run = run_em(trial, flats, **_RACE)
        flats = relocate_clusters(trial, run, n_relocations, _RACE).flats
    return flats


def automatic_number(problem):
    """Number of starts: fewer where large flats make each one slow."""
    if not has_many_rows(problem):
        return _MOST_STARTS
    n_directions = float(np.sum(problem.n_components + 1))
    rows_per_direction = sample_size(problem.n_clusters) / n_directions
    return int(np.clip(rows_per_direction / 2, _FEWEST_STARTS, _MOST_STARTS))


def _best_run(runs, grounds, n_relocations, options):
    """The run of lowest objective, after exchanges with the others."""
    problem, judge, pool = grounds
    runs = sorted(runs, key=_final_loss)
    best = runs[0]
    raced = len(problem.rows) < len(pool.rows)
    if raced or problem.max_parameters is not None:
        return best
    for other in runs[1:]:
        flats = exchange_clusters(judge, best.flats, other.flats, least_gain=1e-9)
        if flats is not None:
            improved = run_em(problem, flats, pool, **options)
            best = min(best, improved, key=_final_loss)
    if not n_relocations:
        return best
    if len(judge.rows) < len(problem.rows):
        return _relocated(problem, judge, pool, best, n_relocations, options)
    return relocate_clusters(problem, best, n_relocations, options)


def _relocated(problem, judge, pool, best, n_relocations, options):
    """After relocations that pay on a sample of the rows, if they do on all."""
    quietly = {**options, "verbose": 0}
    sampled = run_em(judge, best.flats, **quietly)
    moved = relocate_clusters(judge, sampled, n_relocations, quietly)
    if moved is sampled:
        return best
    run = run_em(problem, moved.flats, pool, **options)
    if _final_loss(run) >= (1 - options["tol"]) * _final_loss(best):
        return best
    return run._replace(loss_curve=[*best.loss_curve, _final_loss(run)])


def _final_loss(run):
    return run.loss_curve[-1]


def objective(problem, flats):
    """Objective of rows in memory, dealt out to the flats."""
    rows, weights = problem.rows, problem.rows.sample_weight
    criterion = Criterion(problem.loss, problem.p, 0.0)
    residuals = nearest_flats(rows.X, weights, flats, criterion)[1]
    return float(weights @ problem.loss.rho(residuals).astype(np.float64))


def _settled(problem, start, pool):
    """Under a budget, flats after a rough run with equal dimensions of that size.

    Once rows pay for their dimensions few of them move, so they look for their
    neighbours before.
    """
    if problem.max_parameters is None:
        return start
    equal = problem._replace(max_parameters=None)
    return run_em(equal, start, pool, max_iter=100, tol=1e-3).flats


def _tuned(problem, grounds, starts, enough, least_scale, options):
    """The problem with its loss tuned to the residuals, and a start from each run.

    The sum of distances is minimised, which needs no scale and bears with outliers. The
    scale is the median residual of the best of these runs, made consistent for normal
    residuals; each run is then a start, down-weighting what looks like an outlier
    already.
    """
    l1 = LqLoss(1.0, delta=least_scale)
    free = problem._replace(loss=l1, max_parameters=None)
    trial, judge, pool = grounds.with_loss(l1)
    grounds = Grounds(trial._replace(max_parameters=None), judge, pool)
    quick = {**options, "max_iter": 50, "verbose": 0}
    runs = _runs(free, grounds, starts, enough, 0, quick)
    state = free.rows.at(min(runs, key=_final_loss).state, pool.indices)
    typical = float(np.median(state.residuals[state.sample_weight > 0]))
    problem = _with_loss(problem, judge, max(typical / _MAD, least_scale))
    return problem, [run.flats for run in runs]


def _with_loss(problem, judge, scale):
    """The problem with its loss scaled, after a trial up to the row lengths."""
    loss = ready(problem.loss, scale)
    check_loss(loss, max(scale, _row_length(judge)))
    return problem._replace(loss=loss)


def _row_length(problem):
    """Length of a typical row, not zero."""
    energies = row_norms(problem.rows.X, squared=True)
    return float(np.sqrt(energies.mean())) or 1.0


def _needs_scale(loss):
    """Whether the loss has a tuning constant to be estimated; l_q needs none."""
    return getattr(loss, "delta", 0) is None and not isinstance(loss, LqLoss)
