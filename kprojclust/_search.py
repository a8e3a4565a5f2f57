"""Many starts: the scale of the loss, one run each, and exchanges between runs."""

import numpy as np
from sklearn.utils.extmath import row_norms

from kprojclust._em import majorising_weights, run_em
from kprojclust._exchange import exchange_clusters
from kprojclust._relocation import relocate_clusters
from kprojclust.losses import LqLoss, check_loss, ready

# The median absolute deviation of a normal distribution is this share of its spread.
_MAD = 0.6745


def search(problem, starts, n_relocations, *, max_iter, tol, verbose=0):
    """The best run over all starts.

    Parameters
    ----------
    problem : Problem
        Its loss may lack a tuning constant. All runs minimise the same objective.
    starts : iterable of ndarray of shape (n_samples,)
    n_relocations : int
        Largest number of relocations of clusters at the end; without a budget only.
    max_iter, tol, verbose
        As of `run_em`.

    Returns
    -------
    problem : Problem
        With the loss that was used.
    run : Run
    """
    options = {"max_iter": max_iter, "tol": tol, "verbose": verbose}
    if _needs_scale(problem.loss):
        problem, warm_starts = _tuned_by_l1(problem, starts)
    else:
        problem = _with_loss(problem, _least_scale(problem))
        warm_starts = ((labels, None) for labels in starts)
    runs = [
        run_em(problem, _settled(problem, labels), row_weights=weights, **options)
        for labels, weights in warm_starts
    ]
    runs.sort(key=lambda run: run.loss_curve[-1])
    best = runs[0]
    if problem.max_parameters is None:
        for other in runs[1:]:
            labels = exchange_clusters(problem, best.flats, other.flats)
            if labels is not None:
                improved = run_em(problem, labels, **options)
                best = min(best, improved, key=lambda run: run.loss_curve[-1])
        best = relocate_clusters(
            problem, best, n_relocations, max_iter=max_iter, tol=tol
        )
    return problem, best


def _settled(problem, labels):
    """Under a budget, labels after a rough run with equal dimensions of that size.

    Once rows pay for their dimensions few of them move, so they look for their
    neighbours before.
    """
    if problem.max_parameters is None:
        return labels
    equal = problem._replace(max_parameters=None)
    return run_em(equal, labels, max_iter=100, tol=1e-3).labels


def _needs_scale(loss):
    """Whether the loss has a tuning constant to be estimated; l_q needs none."""
    return getattr(loss, "delta", 0) is None and not isinstance(loss, LqLoss)


def _tuned_by_l1(problem, starts):
    """The problem with its loss tuned to the residuals, and a start from each run.

    From every start the sum of distances is minimised, which needs no scale and bears
    with outliers. The scale is the median residual of the best of these runs, made
    consistent for normal residuals; each run is then a start, down-weighting what
    looks like an outlier already.
    """
    least = _least_scale(problem)
    l1 = problem._replace(loss=LqLoss(1.0, delta=least), max_parameters=None)
    runs = [run_em(l1, start, max_iter=50, tol=1e-4) for start in starts]
    best = min(runs, key=lambda run: run.loss_curve[-1])
    counted = best.residuals[problem.sample_weight > 0]
    problem = _with_loss(problem, max(float(np.median(counted)) / _MAD, least))
    return problem, [
        (run.labels, majorising_weights(problem, run.residuals)) for run in runs
    ]


def _with_loss(problem, scale):
    """The problem with its loss scaled, after a trial up to the row lengths."""
    loss = ready(problem.loss, scale)
    check_loss(loss, max(scale, _row_length(problem)))
    return problem._replace(loss=loss)


def _least_scale(problem):
    """A part in a million of the length of a typical row: nothing, but not zero."""
    return 1e-6 * _row_length(problem)


def _row_length(problem):
    energies = row_norms(problem.X, squared=True)
    return float(np.sqrt(energies.mean())) or 1.0
