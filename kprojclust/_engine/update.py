"""The update step: flats for given clusters, and how many directions each one keeps."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from kprojclust._geometry.minkowski import euclidean_weights, keep_if_better
from kprojclust._geometry.subspaces import fit_flat


def refit(problem, statistics, sizes):
    """Update step: flats of least weighted squared distance, and the price.

    The price is the cost that one stored number must save; 0 without a budget.
    ``statistics`` are a Scatter or Members, ``sizes`` the rows of each cluster.
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
    dimensions, price = allocate_budget(spectra, sizes, problem.max_parameters - means)
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


def match_dimensions(spectra, n_components):
    """Match given dimensions to clusters so that the least cost is left.

    Returns ``order``: ``spectra[order[c]]`` is to keep ``n_components[c]`` directions.
    """
    left = np.array([spectrum.residuals()[n_components] for spectrum in spectra])
    return linear_sum_assignment(left.T)[1]


def allocate_budget(spectra, sizes, n_free):
    """Allocate a budget of numbers to the clusters so that the least cost is left.

    A direction of cluster c lowers the cost by its energy lambda and takes n_c + d
    numbers, so directions are added in the order of lambda / (n_c + d) while they fit.
    Returns n_components of shape (n_clusters,), and as price the Lagrange multiplier
    mu: energy per number of the last direction added.
    """
    n_features = len(spectra[0].mean)
    gains = np.array([spectrum.energies for spectrum in spectra])
    prices = (sizes + n_features).astype(np.int64)
    rates = gains / prices[:, np.newaxis]
    order = np.argsort(-rates, axis=None, kind="stable")
    clusters = order // n_features
    spent = np.cumsum(prices[clusters])
    n_bought = int(np.searchsorted(spent, n_free, side="right"))
    n_components = np.bincount(clusters[:n_bought], minlength=len(spectra))
    price = float(rates.ravel()[order[max(n_bought - 1, 0)]])
    left = n_free - (spent[n_bought - 1] if n_bought else 0)
    for c in clusters[n_bought:]:  # cheaper ones that still fit
        if prices[c] <= left:
            n_components[c] += 1
            left -= prices[c]
    return n_components, price


def starting_dimensions(max_parameters, n_clusters, shape):
    """Equal dimensions that a budget allows, at least 1, for starts that need them."""
    n_samples, n_features = shape
    each = max_parameters // (n_samples + n_clusters * n_features)
    return np.full(n_clusters, np.clip(each, 1, n_features), dtype=np.intp)
