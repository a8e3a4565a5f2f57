"""How many directions each cluster keeps: given in any order, or under a budget."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def match_dimensions(spectra, n_components):
    """Deal given dimensions out to clusters so that the least cost is left.

    Parameters
    ----------
    spectra : list of Spectrum
        One per cluster.
    n_components : ndarray of shape (n_clusters,)

    Returns
    -------
    order : ndarray of shape (n_clusters,)
        ``spectra[order[c]]`` is to keep ``n_components[c]`` directions.
    """
    left = np.array([spectrum.residuals()[n_components] for spectrum in spectra])
    return linear_sum_assignment(left.T)[1]


def share_budget(spectra, sizes, n_free):
    """Share a number of parameters out over clusters, to leave the least cost.

    A direction of cluster c takes away its energy lambda and costs n_c + d numbers, so
    directions are bought in the order of lambda / (n_c + d), as long as they fit.

    Parameters
    ----------
    spectra : list of Spectrum
    sizes : ndarray of shape (n_clusters,)
        Rows n_c in each cluster.
    n_free : int
        Numbers to spend.

    Returns
    -------
    n_components : ndarray of shape (n_clusters,)
    price : float
        The multiplier mu: energy that each of the last numbers spent took away.
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
