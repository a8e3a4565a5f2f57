"""Flats of clusters from their second moments."""

from itertools import chain

import numpy as np

from kprojclust._engine.moments import (
    Moments,
    all_moments,
    moments_of_moves,
    moved_moments,
)
from kprojclust._geometry.subspaces import Flat, principal_energies, spectra_of
from kprojclust._parallel.threads import parallel_map
from kprojclust._parallel.tiles import batches

# Products with the matrix from which a Krylov space is built.
_KRYLOV_STEPS = 3

# A flat of at most this share of the features is searched in a Krylov space.
_FEW = 1 / 8

# Matrices of so many numbers in all are decomposed in one call.
_FEW_NUMBERS = 2**12

# Below this share of the energy, times the machine epsilon, what is left over has lost
# all but about three digits to cancellation.
_CANCELLATION = 1e3


class Scatter:
    """Flats of clusters from their second moments.

    Parameters
    ----------
    n_clusters, n_features : int
    dtype : dtype
        Of the flats.
    origin : ndarray of shape (n_features,) or None
        None for linear subspaces; otherwise a point near all means, which are then
        found without cancellation.
    constant_weights : bool
        Whether the row weights stay as they are, so that only the moments of rows that
        move change.
    """

    def __init__(self, n_clusters, n_features, dtype, origin, constant_weights):
        self.n_clusters, self.n_features = n_clusters, n_features
        self.dtype, self.origin = dtype, origin
        self.constant_weights = constant_weights
        self.collect_first = all_moments
        self.collect = moved_moments if constant_weights else all_moments
        self._moments = Moments.zeros(range(n_clusters), n_features)
        self._spectra = [None] * n_clusters
        self._changed = np.ones(n_clusters, dtype=bool)

    def update(self, state, totals):
        """Take in the moments that were collected in a pass over the rows."""
        if not self.constant_weights:
            self._set_to_zero(np.arange(self.n_clusters))
        self._add(totals.moments)
        # What rounding leaves of a cluster without rows is not one.
        if not totals.sizes.all():
            self._set_to_zero(np.flatnonzero(totals.sizes == 0))

    def move(self, state, fill):
        """Take in that rows have new labels."""
        change = moments_of_moves(
            fill.X,
            fill.row_weights,
            fill.old_labels,
            fill.labels,
            self.n_clusters,
            self.origin,
        )
        self._add(change)

    def _add(self, change):
        for i, c in enumerate(change.clusters):
            for sums, part in zip(self._moments[1:], change[1:], strict=True):
                sums[c] += part[i]
        self._forget(change.clusters)

    def _set_to_zero(self, clusters):
        for sums in self._moments[1:]:
            sums[clusters] = 0
        self._forget(clusters)

    def _forget(self, clusters):
        self._changed[clusters] = True
        for c in clusters:
            self._spectra[c] = None

    def spectra(self):
        """Spectrum of each cluster."""
        self._changed[:] = False
        wanted = [c for c, found in enumerate(self._spectra) if found is None]
        size = max(1, _FEW_NUMBERS // self.n_features**2)
        groups = [wanted[group] for group in batches(len(wanted), size)]
        found = parallel_map(self._spectra_of, groups)
        for c, spectrum in zip(wanted, chain.from_iterable(found), strict=True):
            self._spectra[c] = spectrum
        return self._spectra

    def _spectra_of(self, clusters):
        means, grams = self._centred(clusters)
        return spectra_of(means, grams, self.dtype)

    def flats(self, n_components):
        """Flat of each cluster, of given dimensions."""
        return [s.flat(j) for s, j in zip(self.spectra(), n_components, strict=True)]

    def improved(self, flats):
        """Flats that are nearly the best, and no worse than those given, but faster.

        Those of few dimensions are the best in a Krylov space of the old basis, which
        contains it. Clusters that did not change keep their flats.
        """
        changed, self._changed = self._changed, np.zeros(len(flats), dtype=bool)
        return parallel_map(
            lambda c: self._improved(c, flats[c]) if changed[c] else flats[c],
            range(len(flats)),
        )

    def _improved(self, c, flat):
        if not has_few_directions(flat.dimension, self.n_features):
            return self._spectra_of([c])[0].flat(flat.dimension)
        mean, gram = self._centred(c)
        components = _best_in_krylov_space(gram, flat.components)
        return Flat(mean, components.astype(self.dtype))

    def resolution(self):
        """Sum of squared distances below which `left_over` is mostly rounding."""
        energy = np.einsum("cii->", self._moments.grams)
        return _CANCELLATION * float(np.finfo(self.dtype).eps) * energy

    def left_over(self, flats):
        """Sum of squared distances of the rows of each cluster to its flat."""
        return float(sum(parallel_map(self._left_over, range(len(flats)), flats)))

    def _left_over(self, c, flat):
        gram = self._centred(c)[1]
        basis = flat.basis.astype(np.float64)
        energy = np.einsum("ij,ij", basis @ gram, basis)
        return np.trace(gram) - energy if flat.normals is None else energy

    def energies(self, c, flat):
        """Weight, sums of squares along all principal directions, and those of a flat.

        Both are about the mean of the flat.
        """
        _, weights, sums, grams = self._moments
        shift = flat.mean - (0 if self.origin is None else self.origin)
        cross = np.outer(sums[c], shift)
        about_mean = grams[c] - cross - cross.T
        about_mean += weights[c] * np.outer(shift, shift)
        along = np.einsum("ij,ij->i", flat.components @ about_mean, flat.components)
        return weights[c], principal_energies(about_mean), along

    def _centred(self, clusters):
        """Mean of one or several clusters, and second moments about the mean."""
        weights, sums, grams = (part[clusters] for part in self._moments[1:])
        if self.origin is None:
            return np.zeros(sums.shape, self.dtype), grams
        there = (weights > 0)[..., np.newaxis]
        shift = np.divide(
            sums, weights[..., np.newaxis], np.zeros_like(sums), where=there
        )
        grams = grams - sums[..., np.newaxis] * shift[..., np.newaxis, :]
        return np.where(there, self.origin + shift, 0).astype(self.dtype), grams


def has_few_directions(n_components, n_features):
    """Whether a flat of that dimension is found faster in a Krylov space."""
    return n_components <= _FEW * n_features


def _best_in_krylov_space(gram, basis):
    """Strongest directions within the span of the basis times powers of the matrix."""
    blocks = [basis.T.astype(np.float64)]
    for _ in range(_KRYLOV_STEPS):
        blocks.append(np.linalg.qr(gram @ blocks[-1])[0])
    Q = np.linalg.qr(np.hstack(blocks))[0]
    vectors = np.linalg.eigh(Q.T @ gram @ Q)[1]
    return (Q @ vectors[:, ::-1][:, : len(basis)]).T
