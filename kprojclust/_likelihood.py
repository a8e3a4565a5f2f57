"""Clusters as a mixture of probabilistic subspaces, to score how many are enough."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from sklearn.utils.extmath import row_norms

from kprojclust._subspaces import dimensions_of, principal_energies, squared_distances


class Mixture(NamedTuple):
    """Normal distributions stretched along flats, with noise of one variance around."""

    weights: np.ndarray  # (n_clusters,)
    flats: list
    variances: list  # (n_components[c],) each, along the directions
    noise: np.ndarray  # (n_clusters,)
    spectra: list  # (n_features,) each, variances along all principal directions


def fit_mixture(problem, labels, flats, row_weights):
    """Variances of the rows of each cluster along and across its flat.

    Parameters
    ----------
    problem : Problem
    labels : ndarray of shape (n_samples,)
    flats : list of Flat
    row_weights : ndarray of shape (n_samples,)
        Sample weights times the weights of the loss: what it discards has no say.
    """
    X, n_features = problem.X, problem.X.shape[1]
    total = np.average(row_norms(X, squared=True), weights=problem.sample_weight)
    least = max(float(np.finfo(X.dtype).eps) * total, np.finfo(np.float32).tiny)
    spectra, variances, noise = [], [], []
    for c, flat in enumerate(flats):
        rows = labels == c
        weight = row_weights[rows].sum(dtype=np.float64) or 1.0
        spectrum = principal_energies(X[rows] - flat.mean, row_weights[rows]) / weight
        coordinates = (X[rows] - flat.mean) @ flat.components.T
        along = row_weights[rows] @ coordinates.astype(np.float64) ** 2 / weight
        n_across = max(n_features - len(flat.components), 1)
        across = max(spectrum.sum() - along.sum(), 0) / n_across
        spectra.append(spectrum)
        noise.append(max(across, least))
        variances.append(np.maximum(along, noise[-1]))
    sizes = np.bincount(labels, problem.sample_weight, minlength=len(flats))
    return Mixture(sizes / sizes.sum(), flats, variances, np.array(noise), spectra)


def log_likelihoods(X, mixture):
    """Log density of each row under the mixture: shape (n_samples,)."""
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
    _check_rows: Callable

    def score_samples(self, X):
        """Log density of each row under a mixture of probabilistic subspaces.

        Each cluster is a normal distribution with the variances of the training
        rows along its directions and ``noise_variance_`` across them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_densities : ndarray of shape (n_samples,)
        """
        return log_likelihoods(self._check_rows(X), self._mixture)

    def score(self, X, y=None, sample_weight=None):
        """Mean log density of the rows, as of ``PCA``: higher is better.

        On rows that were held out it can choose ``n_clusters`` and ``n_components``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
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
