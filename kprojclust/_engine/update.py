"""The M-step: flats for given clusters of rows."""

import numpy as np

from kprojclust._engine.dimensions import match_dimensions, share_budget
from kprojclust._geometry.minkowski import euclidean_weights, keep_if_better
from kprojclust._geometry.subspaces import fit_flat


def refit(problem, statistics, sizes):
    """Flats of least weighted squared distance to the rows of each cluster.

    Parameters
    ----------
    problem : Problem
    statistics : Scatter or Members
        Of the clusters.
    sizes : ndarray of shape (n_clusters,)
        Rows in each cluster.

    Returns
    -------
    flats : list of Flat
    price : float
        Cost that one stored number must save; 0 without a budget.
    """
    if problem.max_parameters is not None:
        return _refit_under_budget(problem, statistics.spectra(), sizes)
    dimensions = problem.n_components
    if np.all(dimensions == dimensions[0]):
        return statistics.flats(dimensions), 0.0
    spectra = statistics.spectra()
    order = match_dimensions(spectra, dimensions)
    flats = [spectra[s].flat(j) for s, j in zip(order, dimensions, strict=True)]
    return flats, 0.0


def _refit_under_budget(problem, spectra, sizes):
    means = problem.n_clusters * problem.n_features if problem.affine else 0
    dimensions, price = share_budget(spectra, sizes, problem.max_parameters - means)
    flats = [s.flat(j) for s, j in zip(spectra, dimensions, strict=True)]
    return flats, price


def refit_minkowski(problem, members, sample_weight, flats):
    """As `refit`, for p < 2: each flat moves only if the true objective falls."""
    return [
        _refit_minkowski(problem, members, sample_weight, rows, flat)
        for flat, rows in zip(flats, members.rows, strict=True)
    ]


def _refit_minkowski(problem, members, sample_weight, rows, flat):
    if not len(rows):
        return flat
    X = members.X[rows]
    weights = members.row_weights[rows] * euclidean_weights(X, flat, problem.p)
    new = fit_flat(X, weights, flat.dimension, problem.affine)
    return keep_if_better(X, sample_weight[rows], flat, new, problem.p, problem.loss)
