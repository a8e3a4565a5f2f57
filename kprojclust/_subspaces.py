"""Geometry of linear subspaces: fit one to rows, measure the distance to several.

A subspace of dimension j is an ndarray of shape (j, n_features) with orthonormal rows.
"""

import numpy as np
from scipy import linalg
from sklearn import get_config
from sklearn.utils import gen_batches
from sklearn.utils.extmath import row_norms

# Below this share of |a|^2, times the machine epsilon, |a|^2 - |V a|^2 has lost about
# three digits to cancellation, and the residual is formed explicitly instead.
_CANCELLATION = 1e3


def fit_subspace(X, sample_weight, n_components):
    """Subspace of least weighted squared distance to the rows of X.

    Minimises sum_i w_i |x_i - V' V x_i|^2. Directions that the rows leave open are
    filled up with an arbitrary, but deterministic, orthonormal completion.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,)
    n_components : int in [1, n_features]

    Returns
    -------
    components : ndarray of shape (n_components, n_features)
        Orthonormal rows, strongest direction first.
    """
    n_samples, n_features = X.shape
    if n_samples == 0:
        return np.eye(n_components, n_features, dtype=X.dtype)
    Y = X * np.sqrt(sample_weight)[:, np.newaxis]
    if n_samples >= n_features:
        components = _leading_eigenvectors(Y.T @ Y, n_components)
    else:
        components = _leading_singular_vectors(Y, n_components)
    return _fix_signs(components).astype(X.dtype, copy=False)


def _leading_eigenvectors(gram, n_components):
    """Eigenvectors of the largest eigenvalues, as rows, largest first."""
    n_features = gram.shape[0]
    _, vectors = linalg.eigh(
        gram.astype(np.float64),
        subset_by_index=[n_features - n_components, n_features - 1],
        check_finite=False,
    )
    return vectors.T[::-1]


def _leading_singular_vectors(Y, n_components):
    """Right singular vectors of a wide matrix, completed beyond its rows if need be."""
    _, _, vectors = linalg.svd(
        Y.astype(np.float64), full_matrices=False, check_finite=False
    )
    if n_components > len(vectors):
        basis, _ = linalg.qr(vectors.T)
        vectors = np.vstack([vectors, basis.T[len(vectors) :]])
    return vectors[:n_components]


def _fix_signs(components):
    """Make the entry of largest absolute value of each row positive."""
    peaks = np.argmax(np.abs(components), axis=1)[:, np.newaxis]
    return components * np.where(np.take_along_axis(components, peaks, 1) < 0, -1, 1)


def squared_distances(X, components):
    """Squared Euclidean distance of every row to every subspace.

    Computed as |a|^2 - |V a|^2 from one product for all subspaces, block by block
    within scikit-learn's ``working_memory``.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    components : list of ndarray of shape (n_components[c], n_features)

    Returns
    -------
    distances : ndarray of shape (n_samples, n_clusters)
    """
    bases = np.concatenate(components)
    stops = np.cumsum([len(basis) for basis in components])
    distances = np.empty((len(X), len(components)), dtype=X.dtype)
    for rows in gen_batches(len(X), _block_size(len(bases) * X.itemsize)):
        block = X[rows]
        norms = row_norms(block, squared=True)
        projections = np.split(block @ bases.T, stops[:-1], axis=1)
        for c, (basis, coordinates) in enumerate(
            zip(components, projections, strict=True)
        ):
            distances[rows, c] = _residual_norms(block, norms, basis, coordinates)
    return distances


def _block_size(row_bytes):
    """Rows whose projections fit into scikit-learn's ``working_memory`` (MiB)."""
    return max(1, int(get_config()["working_memory"] * 2**20) // row_bytes)


def _residual_norms(X, norms, basis, coordinates):
    """Squared distance of each row to one subspace, safe against cancellation."""
    squared = norms - row_norms(coordinates, squared=True)
    near = squared < _CANCELLATION * np.finfo(X.dtype).eps * norms
    squared[near] = row_norms(X[near] - coordinates[near] @ basis, squared=True)
    return squared
