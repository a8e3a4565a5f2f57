"""Flats of clusters from their second moments."""

import numpy as np

from kprojclust._moments import (
    add_moments,
    all_moments,
    moments_by_cluster,
    moved_moments,
    subtract_moments,
)
from kprojclust._subspaces import Flat, principal_energies, spectrum_of
from kprojclust._threads import parallel_map

# Products with the matrix from which a Krylov space is built.
_KRYLOV_STEPS = 3

# A flat of at most this share of the features is searched in a Krylov space.
_FEW = 1 / 8

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
        self._moments = (None,) * n_clusters
        self._spectra = [None] * n_clusters
        self._changed = [True] * n_clusters

    def update(self, state, totals):
        """Take in the moments that were collected in a pass over the rows."""
        if not self.constant_weights:
            self._moments = (None,) * self.n_clusters
            self._spectra = [None] * self.n_clusters
            self._changed = [True] * self.n_clusters
        self._add(totals.moments)
        # What rounding leaves of a cluster without rows is not one.
        self._moments = tuple(
            moments if size else None
            for moments, size in zip(self._moments, totals.sizes, strict=True)
        )

    def move(self, state, fill):
        """Take in that rows have new labels."""
        gained, lost = (
            moments_by_cluster(
                fill.X, fill.row_weights, labels, self.n_clusters, self.origin
            )
            for labels in (fill.labels, fill.old_labels)
        )
        self._add(subtract_moments(gained, lost))

    def _add(self, moments):
        self._moments = add_moments(self._moments, moments)
        for c, change in enumerate(moments):
            if change is not None:
                self._spectra[c], self._changed[c] = None, True

    def spectra(self):
        """Spectrum of each cluster."""
        self._changed = [False] * self.n_clusters
        self._spectra = parallel_map(self._spectrum, range(self.n_clusters))
        return self._spectra

    def _spectrum(self, c):
        if self._spectra[c] is None:
            mean, gram = self._centred(c)
            return spectrum_of(mean, gram, self.dtype)
        return self._spectra[c]

    def flats(self, n_components):
        """Flat of each cluster, of given dimensions."""
        return [s.flat(j) for s, j in zip(self.spectra(), n_components, strict=True)]

    def improved(self, flats):
        """Flats that are nearly the best, and no worse than those given, but faster.

        Those of few dimensions are the best in a Krylov space of the old basis, which
        contains it. Clusters that did not change keep their flats.
        """
        changed, self._changed = self._changed, [False] * len(flats)
        return parallel_map(
            lambda c: self._improved(c, flats[c]) if changed[c] else flats[c],
            range(len(flats)),
        )

    def _improved(self, c, flat):
        mean, gram = self._centred(c)
        if not has_few_directions(flat.dimension, self.n_features):
            return spectrum_of(mean, gram, self.dtype).flat(flat.dimension)
        components = _best_in_krylov_space(gram, flat.components)
        return Flat(mean, components.astype(self.dtype))

    def resolution(self):
        """Sum of squared distances below which `left_over` is mostly rounding."""
        energy = sum(np.trace(m.gram) for m in self._moments if m is not None)
        return _CANCELLATION * float(np.finfo(self.dtype).eps) * energy

    def left_over(self, flats):
        """Sum of squared distances of the rows of each cluster to its flat."""
        return float(sum(parallel_map(self._left_over, range(len(flats)), flats)))

    def _left_over(self, c, flat):
        if self._moments[c] is None:
            return 0.0
        gram = self._centred(c)[1]
        basis = flat.basis.astype(np.float64)
        energy = np.einsum("ij,ij", basis @ gram, basis)
        return np.trace(gram) - energy if flat.normals is None else energy

    def energies(self, c, flat):
        """Weight, sums of squares along all principal directions, and those of a flat.

        Both are about the mean of the flat.
        """
        moments = self._moments[c]
        if moments is None:
            return 0.0, np.zeros(self.n_features), np.zeros(flat.dimension)
        shift = flat.mean - (0 if self.origin is None else self.origin)
        cross = np.outer(moments.sums, shift)
        about_mean = moments.gram - cross - cross.T
        about_mean += moments.weight * np.outer(shift, shift)
        along = np.einsum("ij,ij->i", flat.components @ about_mean, flat.components)
        return moments.weight, principal_energies(about_mean), along

    def _centred(self, c):
        """Mean of a cluster, and its second moments about the mean."""
        moments = self._moments[c]
        mean = np.zeros(self.n_features)
        if moments is None:
            return mean.astype(self.dtype), np.zeros((self.n_features,) * 2)
        if self.origin is None or moments.weight <= 0:
            return mean.astype(self.dtype), moments.gram
        shift = moments.sums / moments.weight
        gram = moments.gram - np.outer(moments.sums, shift)
        return (self.origin + shift).astype(self.dtype), gram


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
