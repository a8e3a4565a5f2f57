"""Out of a local optimum: dissolve the cluster missed least, split a costly one."""

import numpy as np

from kprojclust._em import majorising_weights, run_em
from kprojclust._problem import distances_to_flats
from kprojclust._splitting import fill_clusters
from kprojclust._subspaces import dimensions_of

# Clusters tried, those missed least first, before the search ends.
_CANDIDATES = 5


def relocate_clusters(problem, run, n_relocations, *, max_iter, tol):
    """Move whole flats for as long as this lowers the objective.

    A cluster is dissolved: its rows go to their second nearest flats. As an empty
    cluster it then takes over rows of the costliest one, and a run from there shows
    whether the exchange pays.

    Parameters
    ----------
    problem : Problem
    run : Run
        Where to begin.
    n_relocations : int
        Largest number of exchanges.
    max_iter : int
    tol : float
        As of ``run_em``; gains of no more than this do not count.

    Returns
    -------
    run : Run
        Every exchange adds one entry to the loss curve.
    """
    for _ in range(n_relocations if len(problem.n_components) > 1 else 0):
        for labels in _exchanges(problem, run):
            trial = run_em(problem, labels, max_iter=max_iter, tol=tol)
            loss = trial.loss_curve[-1]
            if loss < (1 - tol) * run.loss_curve[-1]:
                run = trial._replace(loss_curve=[*run.loss_curve, loss])
                break
        else:
            break
    return run


def _exchanges(problem, run):
    """Yield labels in which one cluster each was dissolved and filled again."""
    distances = distances_to_flats(problem.X, run.flats, problem.p)
    rows = np.arange(len(distances))
    distances[rows, run.labels] = np.inf
    second = np.argmin(distances, axis=1)
    to_second = distances[rows, second]
    rise = problem.loss.rho(to_second) - problem.loss.rho(run.residuals)
    rise = problem.sample_weight * rise
    rises = np.bincount(run.labels, rise, minlength=len(run.flats))
    dimensions = dimensions_of(run.flats)
    for c in np.argsort(rises, kind="stable")[:_CANDIDATES]:
        homeless = run.labels == c
        residuals = np.where(homeless, to_second, run.residuals)
        yield fill_clusters(
            problem.X,
            majorising_weights(problem, residuals),
            np.where(homeless, second, run.labels),
            residuals**2,
            dimensions,
            problem.affine,
        )
