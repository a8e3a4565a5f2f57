"""Geometry of one flat: fit it to rows, or describe it.

A flat is a mean and an orthonormal basis of shape (j, n_features); the mean of a linear
subspace is zero.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Below this share of the largest, an eigenvalue of a few rows is rounding noise: their
# Gram matrix has the squares of the singular values.
_RANK = 1e-12

# Where a row weighs so many times the mean, single precision would lose the others.
_UNEQUAL = 1e2


class Flat(NamedTuple):
    """The points mean + y @ components for all coordinates y."""

    mean: np.ndarray  # (n_features,)
    components: np.ndarray  # (n_components, n_features), orthonormal rows
    # (n_features - n_components, n_features), orthonormal rows across, if fewer
    normals: np.ndarray | None = None

    @property
    def dimension(self):
        """Number of directions along the flat."""
        return len(self.components)

    @property
    def basis(self):
        """What distances need: the normals if known, otherwise the components."""
        return self.components if self.normals is None else self.normals


class Spectrum(NamedTuple):
    """Principal directions of some rows, strongest first."""

    mean: np.ndarray  # (n_features,)
    energies: np.ndarray  # (n_features,) weighted sums of squares along the directions
    # From a number to at least so many directions, orthonormal rows.
    leading: Callable[[int], np.ndarray]

    def flat(self, n_components):
        """The flat spanned by the leading directions."""
        few_across = len(self.mean) < 2 * n_components
        found = self.leading(len(self.mean) if few_across else n_components)
        across = found[n_components:] if few_across else None
        return Flat(self.mean, found[:n_components], across)

    def residuals(self):
        """Weighted squared distance left with 0, 1, ..., n_features directions."""
        return np.append(np.cumsum(self.energies[::-1])[::-1], 0.0)


def fit_flat(X, sample_weight, n_components, affine=False):
    """Flat of least weighted squared distance to the rows, strongest direction first.

    Minimises sum_i w_i |x_i - m - V' V (x_i - m)|^2, with m = 0 unless affine.
    Directions that the rows leave open are filled up with an arbitrary, but
    deterministic, orthonormal completion.
    """
    mean, _, leading = decompose(X, sample_weight, affine)
    return Flat(mean, leading(n_components)[:n_components])


def decompose(X, sample_weight, affine=False):
    """The principal directions of the weighted rows, as a Spectrum."""
    mean, Y = _weighted_rows(X, sample_weight, affine)
    n_samples, n_features = Y.shape
    if n_samples >= n_features:
        if are_unequal(sample_weight):
            Y = Y.astype(np.float64)
        (spectrum,) = spectra_of(mean[np.newaxis], (Y.T @ Y)[np.newaxis], X.dtype)
        return spectrum
    return _spectrum_of_few(mean, Y.astype(np.float64), X.dtype)


def spectra_of(means, grams, dtype):
    """Spectra of clusters with the given means, and second moments about them."""
    energies, directions = _eigenvectors(grams)
    return [
        Spectrum(mean, np.maximum(values, 0), _known(vectors.astype(dtype, copy=False)))
        for mean, values, vectors in zip(means, energies, directions, strict=True)
    ]


def _known(directions):
    return lambda n_wanted: directions


def principal_energies(gram):
    """Sums of squares along all principal directions, largest first, from moments."""
    if not np.any(gram):
        return np.zeros(len(gram))
    return np.maximum(np.linalg.eigvalsh(gram)[::-1], 0)


def are_unequal(sample_weight):
    """Whether some rows weigh so much that sums need double precision."""
    return bool(sample_weight.max() > _UNEQUAL * sample_weight.mean())


def _weighted_rows(X, sample_weight, affine):
    """The mean to subtract, and the rows less that mean times sqrt(weight)."""
    mean = np.zeros(X.shape[1], dtype=X.dtype)
    total = sample_weight.sum()
    if affine and total > 0:
        mean = (sample_weight @ X / total).astype(X.dtype, copy=False)
        X = X - mean
    return mean, X * np.sqrt(sample_weight)[:, np.newaxis]


def _eigenvectors(gram):
    """Eigenvalues and eigenvectors as rows, largest first, of one or more matrices."""
    # numpy's solver, unlike scipy's, lets other threads run.
    values, vectors = np.linalg.eigh(gram.astype(np.float64, copy=False))
    return values[..., ::-1], vectors.swapaxes(-1, -2)[..., ::-1, :]


def _spectrum_of_few(mean, Y, dtype):
    """Spectrum of fewer rows than features, from Y Y' instead of Y'Y."""
    n_samples, n_features = Y.shape
    energies = np.zeros(n_features)
    values, left = _eigenvectors(Y @ Y.T) if n_samples else (np.zeros(0), Y[:, :0])
    kept = values > _RANK * max(values.max(initial=0), np.finfo(float).tiny)
    energies[: np.count_nonzero(kept)] = values[kept]

    def leading(n_wanted):
        spanned = left[kept][:n_wanted] @ Y
        n_open = n_wanted - len(spanned)
        others = np.random.default_rng(0).standard_normal((n_open, n_features))
        # Orthogonal up to rounding; QR makes it exact and completes it.
        directions = np.linalg.qr(np.vstack([spanned, others]).T)[0].T
        return directions.astype(dtype, copy=False)

    return Spectrum(mean, energies, leading)


def fix_signs(flat):
    """The same flat; the entry of largest size of each component is positive."""
    components = flat.components
    if not components.size:
        return flat
    peaks = np.argmax(np.abs(components), axis=1)
    signs = np.sign(components[np.arange(len(components)), peaks])
    return flat._replace(components=components * signs[:, np.newaxis])


def dimensions_of(flats):
    """Dimension of each flat: ndarray of shape (n_clusters,)."""
    return np.array([flat.dimension for flat in flats])


def residuals(X, flat):
    """The rows less their orthogonal projections onto a flat."""
    centred = X - flat.mean
    return centred - (centred @ flat.components.T) @ flat.components
