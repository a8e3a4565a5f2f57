"""Which rows may share a subspace: sparse affinities, and their spectral clustering."""

import warnings
from math import ceil, log

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import lobpcg
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from kprojclust._parallel.threads import parallel_map
from kprojclust._parallel.tiles import tiles

# Up to this size a dense eigenproblem is as fast as an iterative one.
_DENSE = 500

# Eigenvectors that are iterated beyond those wanted, the accuracy of all of them, and
# the iterations after which they are good enough to cluster.
_GUARD = 5
_TOLERANCE = 1e-3
_MAX_ITER = 50

# Below this share of the largest, an eigenvalue of the rows is rounding noise.
_RANK = 1e-10

# Starts of k-means on the eigenvectors times clusters, at most and as long as they are
# several; with many clusters each start is slow, and ends where the others do.
_MOST_STARTS, _MOST_CENTERS = 10, 200

# Steps of a random walk on the graph, over which two rows are compared.
_WALK = 2


def ridge_directions(X, ridge):
    r"""Directions of the rows in which a shared background counts little.

    The ridge regression of all rows on all rows, min |X - C X|^2 + lambda |C|^2, has
    the coefficients C = Z Z' with Z = X (X'X + lambda I)^(-1/2). The rows of Z, scaled
    to length one, are returned, in coordinates along the principal directions. X is
    scaled to rows of length one first.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    ridge : float
        lambda, in units of the mean eigenvalue of X'X.

    Returns
    -------
    Z : ndarray of shape (n_samples, rank)
        Rows of length one, or of zeros where the row is zero.
    """
    dtype, X = X.dtype, normalize(X.astype(np.float64))
    n_samples, n_features = X.shape
    if n_samples < n_features:
        values, vectors = linalg.eigh(X @ X.T)
        kept = values >= _RANK * values[-1]
        scores = vectors[:, kept] * np.sqrt(values[kept].clip(0))
    else:
        values, vectors = linalg.eigh(X.T @ X)
        kept = values >= _RANK * values[-1]
        scores = X @ vectors[:, kept]
    penalized = values[kept].clip(0) + ridge * values.clip(0).sum() / n_features
    Z = normalize(scores / np.sqrt(np.where(penalized > 0, penalized, 1)))
    return Z.astype(dtype, copy=False)


def nearest_directions(Z, n_neighbors):
    """Graph from every row to the n_neighbors rows of largest absolute cosine.

    Rows of Z have length one, or are zero. Formed in blocks, so that no dense
    (n_samples, n_samples) matrix exists. No row is its own neighbor, and no entry 0.
    """
    n_samples = len(Z)

    def nearest(rows):
        cosines = np.abs(Z[rows] @ Z.T)
        own = np.arange(rows.start, rows.stop)
        cosines[np.arange(len(own)), own] = 0
        return keep_largest(cosines, n_neighbors)

    blocks = tiles(n_samples, n_samples, Z.itemsize)
    return sparse.csr_array(sparse.vstack(parallel_map(nearest, blocks)))


def keep_largest(affinity, n_kept):
    """Graph of the n_kept largest entries of each row of a non-negative matrix.

    The matrix is dense or sparse, of shape (n_rows, n_samples); zeros are left out.
    """
    if sparse.issparse(affinity):
        order = np.lexsort((-affinity.data, affinity.nonzero()[0]))
        counts = np.diff(affinity.indptr)
        rank = np.arange(affinity.nnz) - np.repeat(affinity.indptr[:-1], counts)
        kept = np.sort(order[rank < n_kept])
        pointers = np.concatenate([[0], np.cumsum(np.minimum(counts, n_kept))])
        return sparse.csr_array(
            (affinity.data[kept], affinity.indices[kept], pointers), affinity.shape
        )
    n_rows, n_samples = affinity.shape
    n_kept = min(n_kept, n_samples)
    columns = np.argpartition(-affinity, n_kept - 1, axis=1)[:, :n_kept]
    columns.sort(axis=1)
    entries = np.take_along_axis(affinity, columns, 1).ravel()
    graph = sparse.csr_array(
        (entries, columns.ravel(), n_kept * np.arange(n_rows + 1)), affinity.shape
    )
    graph.eliminate_zeros()
    return graph


def spectral_clusters(
    graph, n_clusters, random_state, *, sample_weight=1.0, n_init=None
):
    """Cut a graph into clusters: normalised cuts by weighted k-means.

    The rows of the leading eigenvectors of D^-1/2 (A + A') D^-1/2, scaled by the
    eigenvalues of a short random walk and to length one, are clustered by k-means with
    the degrees D as weights: rows that hardly belong anywhere do not get clusters of
    their own.

    Parameters
    ----------
    graph : csr_array of shape (n_samples, n_samples)
        Non-negative A.
    n_clusters : int
        At most n_samples.
    random_state : RandomState
    sample_weight : float or ndarray of shape (n_samples,)
        Further weights for the k-means step.
    n_init : int or None
        Starts of k-means; None is 10, and less for more than 20 clusters.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
    """
    if n_clusters == 1:
        return np.zeros(graph.shape[0], dtype=np.intp)
    graph = sparse.csr_array(graph + graph.T)
    degrees = graph.sum(axis=1)
    values, vectors = _leading_eigenpairs(graph, degrees, n_clusters, random_state)
    weights = degrees * sample_weight
    if not weights.any():
        weights = None
    if n_init is None:
        n_init = int(np.clip(_MOST_CENTERS // n_clusters, 1, _MOST_STARTS))
    kmeans = KMeans(n_clusters, n_init=n_init, random_state=random_state)
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters, for which the caller warns.
        warnings.simplefilter("ignore", ConvergenceWarning)
        embedding = normalize(vectors * values.clip(0) ** _WALK)
        return kmeans.fit(embedding, sample_weight=weights).labels_


def _leading_eigenpairs(graph, degrees, n_vectors, random_state):
    """Largest eigenvalues and their eigenvectors of the normalised graph."""
    n_samples = graph.shape[0]
    scale = 1 / np.sqrt(np.where(degrees > 0, degrees, 1))
    normalised = sparse.csr_array(graph.multiply(scale[:, np.newaxis]).multiply(scale))
    n_block = n_vectors + _GUARD
    if n_samples <= max(_DENSE, 5 * n_block):
        first = n_samples - n_vectors
        return linalg.eigh(normalised.toarray(), subset_by_index=[first, n_samples - 1])
    # A block method: a graph in pieces repeats its largest eigenvalue, and Lanczos
    # iterations from a single vector miss some of the repetitions.
    block = random_state.standard_normal((n_samples, n_block))
    # Threads cost more than they save on matrices this thin.
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        # It says how far from the tolerance the eigenvectors are.
        warnings.simplefilter("ignore", UserWarning)
        values, vectors = lobpcg(normalised, block, tol=_TOLERANCE, maxiter=_MAX_ITER)
    return values[:n_vectors], vectors[:, :n_vectors]


def default_n_neighbors(n_samples):
    """Links of a row: the natural logarithm of the number of rows, rounded up.

    Thresholding finds the subspaces of random rows with links in the order of log n
    (Heckel and Bölcskei, 2015, Theorem 1).
    """
    return max(1, ceil(log(n_samples)))
