"""Flats of clusters from their rows themselves, where these are fewer than features."""

import numpy as np

from kprojclust._engine.moments import no_moments
from kprojclust._geometry.subspaces import decompose, principal_energies
from kprojclust._parallel.threads import parallel_map


class Members:
    """As `Scatter`, for few rows: a Gram matrix of the features would be larger.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_clusters : int
    affine : bool
    """

    collect_first = collect = staticmethod(no_moments)
    origin = None

    def __init__(self, X, n_clusters, affine):
        self.X, self.n_clusters, self.affine = X, n_clusters, affine
        self.row_weights = np.zeros(0, X.dtype)
        self.rows = [np.zeros(0, np.intp)] * n_clusters
        self._spectra = [None] * n_clusters

    def update(self, state, totals=None):
        """Take in the labels and the row weights after a pass over the rows."""
        old_rows, old_weights = self.rows, self.row_weights
        self.row_weights = state.row_weights
        order = np.argsort(state.labels, kind="stable")
        sizes = np.bincount(state.labels, minlength=self.n_clusters)
        self.rows = np.split(order, np.cumsum(sizes)[:-1])
        for c, (old, new) in enumerate(zip(old_rows, self.rows, strict=True)):
            stays = np.array_equal(old, new) and np.array_equal(
                old_weights[old], self.row_weights[new]
            )
            if not stays:
                self._spectra[c] = None

    def move(self, state, fill):
        """Take in that rows have new labels."""
        self.update(state)

    def spectra(self):
        """Spectrum of each cluster."""
        changed = [c for c, spectrum in enumerate(self._spectra) if spectrum is None]
        for c, spectrum in zip(
            changed, parallel_map(self._spectrum_of, changed), strict=True
        ):
            self._spectra[c] = spectrum
        return self._spectra

    def _spectrum_of(self, c):
        rows = self.rows[c]
        return decompose(self.X[rows], self.row_weights[rows], self.affine)

    def flats(self, n_components):
        """Flat of each cluster, of given dimensions."""
        return parallel_map(lambda s, j: s.flat(j), self.spectra(), n_components)

    def energies(self, c, flat):
        """Weight, sums of squares along all principal directions, and those of a flat.

        Both are about the mean of the flat.
        """
        rows = self.rows[c]
        weights = self.row_weights[rows].astype(np.float64)
        Y = (self.X[rows] - flat.mean) * np.sqrt(weights)[:, np.newaxis]
        along = np.sum((Y @ flat.components.T) ** 2, axis=0)
        known = self._spectra[c]
        if known is not None and known.mean is flat.mean:
            return weights.sum(), known.energies, along
        few = len(rows) < Y.shape[1]
        found = principal_energies(Y @ Y.T if few else Y.T @ Y)
        spectrum = np.zeros(Y.shape[1])
        spectrum[: len(found)] = found
        return weights.sum(), spectrum, along
