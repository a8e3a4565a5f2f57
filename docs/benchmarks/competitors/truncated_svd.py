"""scikit-learn's TruncatedSVD: one subspace for all rows."""

import numpy as np
from sklearn.decomposition import TruncatedSVD

from competitors import Clustering, energy


def fit(X, k, j, seed) -> Clustering:
    """TruncatedSVD with as many stored numbers as k subspaces of dimension j take."""
    model = TruncatedSVD(equal_rank(X.shape, k, j), random_state=seed).fit(X)
    objective = energy(X) - float(np.sum(model.singular_values_**2, dtype=np.float64))
    return Clustering(np.zeros(len(X), dtype=int), objective, [objective])


def equal_rank(shape, k, j):
    """Largest rank r with r (n + d) <= j (n + k d)."""
    n, d = shape
    return min(j * (n + k * d) // (n + d), d)
