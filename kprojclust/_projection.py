"""Rows as a subspace and coordinates in it, and back."""

from collections.abc import Callable

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kprojclust._likelihood import Mixture
from kprojclust._rows.checking import check_rows
from kprojclust._rows.validation import check_labels


class ProjectionMixin:
    """Projections of rows for an estimator that holds a Mixture."""

    n_clusters: int
    n_features_in_: int
    n_components_: np.ndarray
    means_: np.ndarray
    _mixture: Mixture
    predict: Callable

    def project(self, X):
        """Projection of each row onto its subspace.

        The rows are loaded into memory, here and in ``encode``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        X_projected : ndarray of shape (n_samples, n_features)
        """
        return self.decode(*self.encode(X))

    def encode(self, X):
        """Subspace of each row and the row's coordinates in it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As in ``fit``, but loaded into memory.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            ``predict(X)``.
        coordinates : ndarray of shape (n_samples, max(`n_components_`))
            Coordinates in the basis ``components_[label]``, zeros beyond its dimension.
        """
        X = check_rows(self, X).X
        labels = self.predict(X)
        coordinates = np.zeros((len(X), self.n_components_.max()), dtype=X.dtype)
        for c, flat in enumerate(self._mixture.flats):
            own = (X[labels == c] - flat.mean) @ flat.components.T
            coordinates[labels == c, : flat.dimension] = own
        return labels, coordinates

    def decode(self, labels, coordinates):
        """Points of given coordinates: the inverse of ``encode`` on the subspaces.

        Parameters
        ----------
        labels : array-like of shape (n_samples,)
        coordinates : array-like of shape (n_samples, max(`n_components_`))

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        coordinates = np.asarray(coordinates)
        if coordinates.ndim != 2 or coordinates.shape[1] != self.n_components_.max():
            raise ValueError(
                "coordinates must have shape (n_samples, "
                f"{self.n_components_.max()}). Got shape {coordinates.shape}."
            )
        labels = check_labels(labels, len(coordinates), self.n_clusters, "labels")
        dtype = self.means_.dtype
        X = np.empty((len(coordinates), self.n_features_in_), dtype=dtype)
        for c, flat in enumerate(self._mixture.flats):
            own = coordinates[labels == c, : flat.dimension]
            X[labels == c] = own @ flat.components + flat.mean
        return X
