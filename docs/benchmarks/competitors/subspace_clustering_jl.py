"""The K-subspaces of the Julia package SubspaceClustering.jl, expressed in numpy.

Julia is not at hand here, so this measures the algorithm as it is documented, not the
package: one run from random subspaces, assignment by the largest |V'x|^2, a refit from
eigenvectors of the Gram matrix, a new random subspace for an empty cluster, until no
label changes or for 100 iterations. The package assigns one row at a time; here it is
one product for all rows.
"""

import numpy as np
from scipy.linalg import eigh
from sklearn.utils.extmath import row_norms

from competitors import Clustering, energy

MAX_ITER = 100


def fit(X, k, j, seed) -> Clustering:
    """One run from random subspaces."""
    rng = np.random.default_rng(seed)
    bases = [_random_basis(rng, j, X) for _ in range(k)]
    labels, _ = _assign(X, bases)
    total, loss_curve = energy(X), []
    for _ in range(MAX_ITER):
        bases = [_refit(X[labels == c], j, rng) for c in range(k)]
        start, (labels, kept) = labels, _assign(X, bases)
        loss_curve.append(total - kept)
        if np.array_equal(labels, start):
            break
    return Clustering(labels, loss_curve[-1], loss_curve)


def _assign(X, bases):
    """Cluster of each row, and the energy that the projections keep."""
    kept = np.stack([row_norms(X @ V.T, squared=True) for V in bases], axis=1)
    return kept.argmax(axis=1), float(kept.max(axis=1).sum(dtype=np.float64))


def _refit(rows, j, rng):
    if not len(rows):
        return _random_basis(rng, j, rows)
    d = rows.shape[1]
    return eigh(rows.T @ rows, subset_by_index=(d - j, d - 1))[1].T


def _random_basis(rng, j, X):
    normal = rng.standard_normal((X.shape[1], j)).astype(X.dtype)
    return np.linalg.qr(normal)[0].T
