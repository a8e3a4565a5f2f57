"""Restarts: the scale of the loss, one run for each start, exchanges between runs.

Where rows are many, the starts race: short runs on a sample of the rows are compared on
a held-out sample, and the best one is the warm start of a run on all rows.
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

# Options of the runs of a race, and the least gain of an exchange between them.
_RACE = {"max_iter": 50, "tol": 1e-3}
_CLEAR_GAIN = 0.01


class Subsamples(NamedTuple):
    """Rows on which starts are run, and rows on which they are compared."""

    train: Any  # Problem
    held_out: Any  # Problem, on rows in memory
    pool: Pool  # rows of both

    def with_loss(self, loss):
        """The same with another loss."""
        train, held_out = (problem._replace(loss=loss) for problem in self[:2])
        return Subsamples(train, held_out, self.pool)


def draw_subsamples(problem, n_starts, random_state):
    """Draw the rows of a race; all rows if they are few.

    n_starts = 0 is a given start, which is run on all rows, as is a single one if they
    are in memory and not too many.
    """
    rows, n_sampled = problem.rows, sample_size(problem.n_clusters)
    if not has_many_rows(problem):
        here = problem._replace(rows=rows.load())
        return Subsamples(here, here, Pool.of_all(here.rows))
    # A given start leaves nothing to chance.
    random_state = random_state if n_starts else check_random_state(0)
    drawn = np.sort(draw_rows(rows.sample_weight, 2 * n_sampled, random_state))
    pool = Pool(rows.take(drawn), drawn)
    alone = n_starts == 1 and rows.in_memory and rows.nbytes <= _SMALL_BYTES
    if alone or n_starts == 0:
        return Subsamples(problem, problem._replace(rows=pool.rows), pool)
    in_train = random_state.permutation(len(drawn)) < len(drawn) // 2
    dimensions = _affordable(problem.n_components, n_sampled)
    train, held_out = (
        problem._replace(
            rows=pool.rows.take(np.flatnonzero(half)),
            n_components=dimensions,
            max_parameters=None,
        )
        for half in (in_train, ~in_train)
    )
    return Subsamples(train, held_out, pool)


def sample_size(n_clusters):
    """Rows in each of the two samples of a race."""
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
    subsamples,
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
    subsamples : Subsamples
    starts : iterable of ndarray of shape (n_samples,) or of list of Flat
        For the rows of ``subsamples.train``.
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
    if len(subsamples.train.rows) == len(problem.rows):
        problem = subsamples.train  # which may have loaded them
    # Negligible beside the length of a typical row, but not zero.
    least_scale = 1e-6 * _row_length(subsamples.held_out)
    if _needs_scale(problem.loss):
        problem, starts = _tuned(
            problem, subsamples, starts, enough, least_scale, options
        )
        held_out = problem._replace(rows=subsamples.pool.rows)
        subsamples = Subsamples(problem, held_out, subsamples.pool)
    else:
        problem = _with_loss(problem, subsamples.held_out, least_scale)
    subsamples = subsamples.with_loss(problem.loss)
    runs = _runs(problem, subsamples, starts, enough, n_relocations, options)
    return problem, _best_run(runs, subsamples, n_relocations, options)


def _runs(problem, subsamples, starts, enough, n_relocations, options):
    """Runs on all rows: of the winner of a race, or of every start."""
    train, held_out, pool = subsamples
    if len(train.rows) < len(problem.rows):
        starts = [_race_winner(train, held_out, starts, enough, n_relocations)]
    runs = (
        run_em(problem, _warm_start(problem, start, pool), pool, **options)
        for start in starts
    )
    return _runs_until_agreement(runs, enough)


def _runs_until_agreement(runs, enough):
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


def _race_winner(train, held_out, starts, enough, n_relocations):
    """Flats fitted on one sample of the rows with the least objective on another.

    No run follows an exchange, so only one of clear gain is made.
    """
    runs = _runs_until_agreement(
        (run_em(train, start, **_RACE) for start in starts), enough
    )
    runs.sort(key=lambda run: objective(held_out, run.flats))
    flats = runs[0].flats
    for other in runs[1:]:
        flats = exchange_clusters(held_out, flats, other.flats, _CLEAR_GAIN) or flats
    if n_relocations:
        run = run_em(train, flats, **_RACE)
        flats = relocate_clusters(train, run, n_relocations, _RACE).flats
    return flats


def automatic_number(problem):
    """Number of starts: fewer where large flats make each one slow."""
    if not has_many_rows(problem):
        return _MOST_STARTS
    n_directions = float(np.sum(problem.n_components + 1))
    rows_per_direction = sample_size(problem.n_clusters) / n_directions
    return int(np.clip(rows_per_direction / 2, _FEWEST_STARTS, _MOST_STARTS))


def _best_run(runs, subsamples, n_relocations, options):
    """The run of lowest objective, after exchanges with the others."""
    problem, held_out, pool = subsamples
    runs = sorted(runs, key=_final_loss)
    best = runs[0]
    raced = len(problem.rows) < len(pool.rows)
    if raced or problem.max_parameters is not None:
        return best
    for other in runs[1:]:
        flats = exchange_clusters(held_out, best.flats, other.flats, least_gain=1e-9)
        if flats is not None:
            improved = run_em(problem, flats, pool, **options)
            best = min(best, improved, key=_final_loss)
    if not n_relocations:
        return best
    if len(held_out.rows) < len(problem.rows):
        return _relocated(problem, held_out, pool, best, n_relocations, options)
    return relocate_clusters(problem, best, n_relocations, options)


def _relocated(problem, held_out, pool, best, n_relocations, options):
    """After relocations that pay on a sample of the rows, if they do on all."""
    quietly = {**options, "verbose": 0}
    sampled = run_em(held_out, best.flats, **quietly)
    moved = relocate_clusters(held_out, sampled, n_relocations, quietly)
    if moved is sampled:
        return best
    run = run_em(problem, moved.flats, pool, **options)
    if _final_loss(run) >= (1 - options["tol"]) * _final_loss(best):
        return best
    return run._replace(loss_curve=[*best.loss_curve, _final_loss(run)])


def _final_loss(run):
    return run.loss_curve[-1]


def objective(problem, flats):
    """Objective of rows in memory, assigned to the flats."""
    rows, weights = problem.rows, problem.rows.sample_weight
    criterion = Criterion(problem.loss, problem.p, 0.0)
    residuals = nearest_flats(rows.X, weights, flats, criterion)[1]
    return float(weights @ problem.loss.rho(residuals).astype(np.float64))


def _warm_start(problem, start, pool):
    """Under a budget, the flats of a short run with equal dimensions of that size.

    Few rows move once their dimensions have a price, so this run comes before.
    """
    if problem.max_parameters is None:
        return start
    equal = problem._replace(max_parameters=None)
    return run_em(equal, start, pool, max_iter=100, tol=1e-3).flats


def _tuned(problem, subsamples, starts, enough, least_scale, options):
    """The problem with its loss tuned to the residuals, and a start from each run.

    The sum of distances is minimised, which needs no scale and is robust to outliers.
    The scale is the median residual of the best of these runs, made consistent for
    normal residuals; the flats of each run are the warm start of another.
    """
    l1 = LqLoss(1.0, delta=least_scale)
    free = problem._replace(loss=l1, max_parameters=None)
    train, held_out, pool = subsamples.with_loss(l1)
    subsamples = Subsamples(train._replace(max_parameters=None), held_out, pool)
    quick = {**options, "max_iter": 50, "verbose": 0}
    runs = _runs(free, subsamples, starts, enough, 0, quick)
    state = free.rows.at(min(runs, key=_final_loss).state, pool.indices)
    typical = float(np.median(state.residuals[state.sample_weight > 0]))
    problem = _with_loss(problem, held_out, max(typical / _MAD, least_scale))
    return problem, [run.flats for run in runs]


def _with_loss(problem, held_out, scale):
    """The problem with its loss scaled, and checked up to the row lengths."""
    loss = ready(problem.loss, scale)
    check_loss(loss, max(scale, _row_length(held_out)))
    return problem._replace(loss=loss)


def _row_length(problem):
    """Length of a typical row, not zero."""
    energies = row_norms(problem.rows.X, squared=True)
    return float(np.sqrt(energies.mean())) or 1.0


def _needs_scale(loss):
    """Whether the loss has a tuning constant to be estimated; l_q needs none."""
    return getattr(loss, "delta", 0) is None and not isinstance(loss, LqLoss)
