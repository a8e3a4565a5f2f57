"""Escape from a local optimum: dissolve one cluster and split another."""

import numpy as np

from kprojclust._engine.em import run_em
from kprojclust._engine.empty_clusters import fill_clusters, starved_clusters
from kprojclust._engine.problem import majorising_weights
from kprojclust._geometry.distances import distances_to_flats
from kprojclust._geometry.subspaces import dimensions_of

# Candidates for dissolution, in ascending order of the rise of the objective.
_CANDIDATES = 5


def relocate_clusters(problem, run, n_relocations, options):
    """Relocate up to n_relocations clusters while this lowers the objective.

    The rows of a cluster are assigned to their second nearest flats; the empty cluster
    then takes over rows of the cluster of largest cost. A run with these labels as a
    warm start shows whether the objective falls by more than the ``tol`` of the options
    of ``run_em``. Every relocation adds one entry to the loss curve.
    """
    for _ in range(n_relocations if len(problem.n_components) > 1 else 0):
        for labels in _exchanges(problem, run):
            trial = run_em(problem, labels, **options)
            loss = trial.loss_curve[-1]
            if loss < (1 - options["tol"]) * run.loss_curve[-1]:
                run = trial._replace(loss_curve=[*run.loss_curve, loss])
                break
        else:
            break
    return run


def _exchanges(problem, run):
    """Yield labels in which one cluster was dissolved and filled again."""
    state, weights = run.state, problem.rows.sample_weight
    distances = distances_to_flats(problem.rows.X, run.flats, problem.p)
    rows = np.arange(len(distances))
    distances[rows, state.labels] = np.inf
    second = np.argmin(distances, axis=1)
    to_second = distances[rows, second]
    rise = problem.loss.rho(to_second) - problem.loss.rho(state.residuals)
    rises = np.bincount(state.labels, weights * rise, minlength=len(run.flats))
    dimensions = dimensions_of(run.flats)
    for c in np.argsort(rises, kind="stable")[:_CANDIDATES]:
        dissolved = state.labels == c
        labels = np.where(dissolved, second, state.labels)
        residuals = np.where(dissolved, to_second, state.residuals)
        members = np.bincount(labels[weights > 0], minlength=len(run.flats))
        yield fill_clusters(
            problem.rows.X,
            majorising_weights(weights, problem.loss, residuals),
            labels,
            residuals**2,
            dimensions,
            starved_clusters(members, dimensions, problem.affine),
            problem.affine,
        )
