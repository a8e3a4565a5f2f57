"""Geometry of flats: fit one to rows, measure the distance to several.

A flat is a mean and an orthonormal basis of shape (j, n_features); the mean of a linear
subspace is zero.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg
from sklearn import get_config
from sklearn.utils import gen_batches
from sklearn.utils.extmath import row_norms

# Below this share of |a|^2, times the machine epsilon, |a|^2 - |V a|^2 has lost about
# three digits to cancellation, and the residual is formed explicitly instead.
_CANCELLATION = 1e3


class Flat(NamedTuple):
    """The points mean + y @ components for all coordinates y."""

    mean: np.ndarray  # (n_features,)
    components: np.ndarray  # (n_components, n_features), orthonormal rows


class Spectrum(NamedTuple):
    """All principal directions of some rows, strongest first."""

    mean: np.ndarray  # (n_features,)
    energies: np.ndarray  # (n_features,) weighted sums of squares along the directions
    directions: np.ndarray  # (n_features, n_features), orthonormal rows

    def flat(self, n_components):
        """The flat spanned by the leading directions."""
        return Flat(self.mean, self.directions[:n_components])

    def residuals(self):
        """Weighted squared distance left with 0, 1, ..., n_features directions."""
        return np.append(np.cumsum(self.energies[::-1])[::-1], 0.0)


def fit_flat(X, sample_weight, n_components, affine=False):
    """Flat of least weighted squared distance to the rows of X.

    Minimises sum_i w_i |x_i - m - V' V (x_i - m)|^2, with m = 0 unless affine.
    Directions that the rows leave open are filled up with an arbitrary, but
    deterministic, orthonormal completion.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,)
    n_components : int in [0, n_features]
    affine : bool

    Returns
    -------
    flat : Flat
        Strongest direction first.
    """
    n_samples, n_features = X.shape
    mean, Y = _weighted_rows(X, sample_weight, affine)
    if n_components == 0 or n_samples == 0:
        components = np.eye(n_components, n_features)
    elif n_samples >= n_features:
        components = _eigenvectors(Y.T @ Y, n_components)[1]
    else:
        components = _singular_vectors(Y, n_components)[1][:n_components]
    return Flat(mean, _fix_signs(components).astype(X.dtype, copy=False))


def decompose(X, sample_weight, affine=False):
    """All principal directions of the weighted rows, as a Spectrum."""
    n_samples, n_features = X.shape
    mean, Y = _weighted_rows(X, sample_weight, affine)
    if n_samples == 0:
        energies, directions = np.zeros(n_features), np.eye(n_features)
    elif n_samples >= n_features:
        energies, directions = _eigenvectors(Y.T @ Y, n_features)
    else:
        energies, directions = _singular_vectors(Y, n_features)
    directions = _fix_signs(directions).astype(X.dtype, copy=False)
    return Spectrum(mean, np.maximum(energies, 0), directions)


def principal_energies(X, sample_weight):
    """Weighted sums of squares along all principal directions, largest first."""
    n_samples, n_features = X.shape
    Y = (X * np.sqrt(sample_weight)[:, np.newaxis]).astype(np.float64)
    gram = Y.T @ Y if n_samples >= n_features else Y @ Y.T
    energies = np.zeros(n_features)
    if n_samples:
        found = linalg.eigvalsh(gram, check_finite=False)[::-1]
        energies[: len(found)] = np.maximum(found, 0)
    return energies


def _weighted_rows(X, sample_weight, affine):
    """The mean to subtract, and the rows less that mean times sqrt(weight)."""
    mean = np.zeros(X.shape[1], dtype=X.dtype)
    total = sample_weight.sum()
    if affine and total > 0:
        mean = (sample_weight @ X / total).astype(X.dtype, copy=False)
        X = X - mean
    return mean, X * np.sqrt(sample_weight)[:, np.newaxis]


def _eigenvectors(gram, n_components):
    """Largest eigenvalues and their eigenvectors as rows, largest first."""
    n_features = gram.shape[0]
    values, vectors = linalg.eigh(
        gram.astype(np.float64),
        subset_by_index=[n_features - n_components, n_features - 1],
        check_finite=False,
    )
    return values[::-1], vectors.T[::-1]


def _singular_vectors(Y, n_wanted):
    """Squared singular values, and right singular vectors, at least those wanted."""
    _, values, vectors = linalg.svd(
        Y.astype(np.float64), full_matrices=False, check_finite=False
    )
    if n_wanted <= len(vectors):
        return values**2, vectors
    completion = linalg.qr(vectors.T)[0].T[len(vectors) : n_wanted]
    energies = np.append(values**2, np.zeros(len(completion)))
    return energies, np.vstack([vectors, completion])


def _fix_signs(components):
    """Make the entry of largest absolute value of each row positive."""
    if not components.size:
        return components
    peaks = np.argmax(np.abs(components), axis=1)[:, np.newaxis]
    return components * np.where(np.take_along_axis(components, peaks, 1) < 0, -1, 1)


def dimensions_of(flats):
    """Dimension of each flat: ndarray of shape (n_clusters,)."""
    return np.array([len(flat.components) for flat in flats])


def residuals(X, flat):
    """The rows less their orthogonal projections onto a flat."""
    centred = X - flat.mean
    return centred - (centred @ flat.components.T) @ flat.components


def row_blocks(n_samples, row_bytes):
    """Slices of rows whose work space fits into scikit-learn's ``working_memory``."""
    size = max(1, int(get_config()["working_memory"] * 2**20) // max(1, row_bytes))
    return gen_batches(n_samples, size)


def squared_distances(X, flats):
    """Squared Euclidean distance of every row to every flat.

    Computed as |a - m|^2 - |V (a - m)|^2 from one product for all flats, block by
    block within scikit-learn's ``working_memory``.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    flats : list of Flat

    Returns
    -------
    distances : ndarray of shape (n_samples, n_clusters)
    """
    means = np.array([flat.mean for flat in flats])
    bases = np.concatenate([flat.components for flat in flats])
    offsets = np.concatenate([flat.components @ flat.mean for flat in flats])
    stops = np.cumsum(dimensions_of(flats))
    distances = np.empty((len(X), len(flats)), dtype=X.dtype)
    for rows in row_blocks(len(X), (len(bases) + 2 * len(flats)) * X.itemsize):
        block = X[rows]
        energies = row_norms(block, squared=True)
        # |a - m|^2 for each mean; exactly |a|^2 where the mean is zero
        norms = energies[:, np.newaxis] - 2 * (block @ means.T)
        norms += row_norms(means, squared=True)
        projections = np.split(block @ bases.T - offsets, stops[:-1], axis=1)
        for c, (flat, coordinates) in enumerate(zip(flats, projections, strict=True)):
            distances[rows, c] = _residual_norms(
                block, energies, norms[:, c], flat, coordinates
            )
    return distances


def _residual_norms(X, energies, norms, flat, coordinates):
    """Squared distance of each row to one flat, safe against cancellation."""
    squared = norms - row_norms(coordinates, squared=True)
    size = energies + flat.mean @ flat.mean
    near = squared < _CANCELLATION * np.finfo(X.dtype).eps * size
    exact = X[near] - flat.mean - coordinates[near] @ flat.components
    squared[near] = row_norms(exact, squared=True)
    return squared
