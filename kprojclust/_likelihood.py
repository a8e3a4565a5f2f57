"""Clusters as a mixture of probabilistic subspaces, to score how many are enough."""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from kprojclust._geometry.distances import chunks, squared_distances, stack_flats
from kprojclust._geometry.subspaces import dimensions_of
from kprojclust._parallel.threads import own_threads, parallel_map
from kprojclust._rows.checking import check_rows


class Mixture(NamedTuple):
    """Normal distributions stretched along flats, with noise of one variance around."""

    weights: np.ndarray  # (n_clusters,)
    flats: list
    variances: list  # (n_components[c],) each, along the directions
    noise: np.ndarray  # (n_clusters,)
    spectra: list  # (n_features,) each, variances along all principal directions


def fit_mixture(problem, run):
    """Variances of the rows of each cluster along and across its flat.

    Rows count by their row weights, so that rows the loss discards do not.
    """
    found = parallel_map(
        lambda c: run.statistics.energies(c, run.flats[c]), range(problem.n_clusters)
    )
    totals = [weight or 1.0 for weight, _, _ in found]
    spectra = [energies / w for (_, energies, _), w in zip(found, totals, strict=True)]
    least = _least_variance(problem, found, run.flats)
    variances, noise = [], []
    for (_, _, energies), total, spectrum in zip(found, totals, spectra, strict=True):
        along = energies / total
        n_across = max(problem.n_features - len(along), 1)
        across = max(spectrum.sum() - along.sum(), 0) / n_across
        noise.append(max(across, least))
        variances.append(np.maximum(along, noise[-1]))
    weights = run.totals.weights / run.totals.weights.sum()
    return Mixture(weights, run.flats, variances, np.array(noise), spectra)


def _least_variance(problem, found, flats):
    """What rounding may leave across a flat, by the mean square of the rows about it.

    Rows far from the origin are rounded more, by eps times their distance.
    """
    eps = float(np.finfo(problem.rows.dtype).eps)
    weight = sum(weight for weight, _, _ in found) or 1.0
    spread = sum(energies.sum() for _, energies, _ in found) / weight
    distance = max(float(flat.mean @ flat.mean) for flat in flats)
    return max(eps * spread, eps**2 * distance, np.finfo(np.float32).tiny)


def log_likelihoods(X, sample_weight, mixture):
    """Log density of each row under the mixture: shape (n_samples,)."""
    with own_threads(X.size):
        return np.concatenate(
            parallel_map(
                lambda rows: _log_likelihoods(X[rows], mixture),
                chunks(len(X), stack_flats(mixture.flats)),
            )
        )


def _log_likelihoods(X, mixture):
    n_features = X.shape[1]
    squared = squared_distances(X, mixture.flats).astype(np.float64)
    logs = np.full((len(X), len(mixture.flats)), -np.inf)
    for c, flat in enumerate(mixture.flats):
        if mixture.weights[c] == 0:
            continue
        variances, noise = mixture.variances[c], mixture.noise[c]
        coordinates = ((X - flat.mean) @ flat.components.T).astype(np.float64)
        n_across = n_features - len(variances)
        spread = np.log(variances).sum() + n_across * np.log(noise)
        lengths = (coordinates**2 / variances).sum(axis=1)
        if n_across:
            lengths += squared[:, c] / noise
        logs[:, c] = np.log(mixture.weights[c]) - 0.5 * (
            n_features * np.log(2 * np.pi) + spread + lengths
        )
    return logsumexp(logs, axis=1)


def _count_free_parameters(mixture, affine):
    """Free parameters of the mixture: bases, variances, means and weights."""
    d = mixture.flats[0].components.shape[1]
    dimensions = dimensions_of(mixture.flats)
    bases = np.sum(d * dimensions - dimensions * (dimensions + 1) // 2)
    variances = np.sum(dimensions + (dimensions < d))
    means = d * len(dimensions) if affine else 0
    return int(bases + variances + means + len(dimensions) - 1)


class MixtureScoreMixin:
    """Scores of a fitted estimator that holds a Mixture."""

    affine: bool
    _mixture: Mixture

    def score_samples(self, X):
        """Log density of each row under a mixture of probabilistic subspaces.

        Each cluster is a normal distribution with the variances of the training
        rows along its directions and ``noise_variance_`` across them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As in ``fit``.

        Returns
        -------
        log_densities : ndarray of shape (n_samples,)
            A Dask array if X is one.
        """
        rows = check_rows(self, X)
        return rows.map(log_likelihoods, np.float64, None, self._mixture)

    def score(self, X, y=None, sample_weight=None):
        """Mean log density of the rows, as of ``PCA``: higher is better.

        On rows that were held out it can choose ``n_clusters`` and ``n_components``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows held out from ``fit``, in any of its forms.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        return float(np.average(self.score_samples(X), weights=sample_weight))

    def bic(self, X):
        """Bayesian information criterion of the mixture on the rows: lower is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        bic : float
        """
        log_densities = self.score_samples(X)
        n_free = _count_free_parameters(self._mixture, self.affine)
        return float(n_free * np.log(len(log_densities)) - 2 * log_densities.sum())
