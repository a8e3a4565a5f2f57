"""The M-step: flats for given clusters of rows."""

import numpy as np

from kprojclust._dimensions import match_dimensions, share_budget
from kprojclust._minkowski import euclidean_weights, keep_if_better
from kprojclust._subspaces import decompose, fit_flat


def refit(problem, labels, row_weights):
    """Flats of least weighted squared distance to the rows of each cluster.

    Parameters
    ----------
    problem : Problem
    labels : ndarray of shape (n_samples,)
    row_weights : ndarray of shape (n_samples,)
        Sample weights times the weights that majorise the loss.

    Returns
    -------
    flats : list of Flat
    price : float
        Cost that one stored number must save; 0 without a budget.
    """
    if problem.max_parameters is not None:
        return _refit_under_budget(problem, labels, row_weights)
    dimensions = problem.n_components
    if np.all(dimensions == dimensions[0]):
        flats = [
            fit_flat(problem.X[rows], row_weights[rows], dimension, problem.affine)
            for rows, dimension in zip(
                _members(labels, len(dimensions)), dimensions, strict=True
            )
        ]
        return flats, 0.0
    spectra = _spectra(problem, labels, row_weights)
    order = match_dimensions(spectra, dimensions)
    flats = [spectra[s].flat(j) for s, j in zip(order, dimensions, strict=True)]
    return flats, 0.0


def _refit_under_budget(problem, labels, row_weights):
    spectra = _spectra(problem, labels, row_weights)
    n_clusters, n_features = len(spectra), problem.X.shape[1]
    means = n_clusters * n_features if problem.affine else 0
    sizes = np.bincount(labels, minlength=n_clusters)
    dimensions, price = share_budget(spectra, sizes, problem.max_parameters - means)
    flats = [s.flat(j) for s, j in zip(spectra, dimensions, strict=True)]
    return flats, price


def _spectra(problem, labels, row_weights):
    return [
        decompose(problem.X[rows], row_weights[rows], problem.affine)
        for rows in _members(labels, len(problem.n_components))
    ]


def _members(labels, n_clusters):
    """Row indices of each cluster."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels, minlength=n_clusters))[:-1])


def refit_minkowski(problem, flats, labels, row_weights):
    """As `refit`, for p < 2: each flat moves only if the true objective falls."""
    weights = row_weights.copy()
    members = _members(labels, len(flats))
    for flat, rows in zip(flats, members, strict=True):
        weights[rows] *= euclidean_weights(problem.X[rows], flat, problem.p)
    return [
        keep_if_better(
            problem.X[rows],
            problem.sample_weight[rows],
            flat,
            fit_flat(
                problem.X[rows], weights[rows], len(flat.components), problem.affine
            ),
            problem.p,
            problem.loss,
        )
        if len(rows)
        else flat
        for flat, rows in zip(flats, members, strict=True)
    ]
