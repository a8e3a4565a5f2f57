"""The algorithm of the MESSI paper, written from the paper.

Lloyd's loop of A. Maalouf, H. Lang, D. Rus and D. Feldman, "Deep Learning Meets
Projective Clustering", ICLR 2021, Section 2. A start deals the rows out at random into
clusters of equal size; each cluster is refitted by the SVD of its rows, and a distance
is the norm of what a row has in the null space of a basis.
"""

import numpy as np
from scipy.linalg import null_space

from competitors import Clustering
from competitors.plain_loop import leading_directions

N_STARTS = 10
N_STEPS = 10


def fit(X, k, j, seed) -> Clustering:
    """Best of ten starts of ten steps."""
    rng = np.random.default_rng(seed)
    starts = (_fit_from(X, _equal_split(rng, len(X), k), k, j) for _ in range(N_STARTS))
    return min(starts, key=lambda found: found.objective)


def _fit_from(X, labels, k, j):
    loss_curve = []
    for _ in range(N_STEPS):
        bases = [leading_directions(X[labels == c], j) for c in range(k)]
        from_each = np.stack([distances(X, basis) for basis in bases], axis=1)
        labels = from_each.argmin(axis=1)
        squared = from_each.min(axis=1) ** 2
        loss_curve.append(float(squared.sum(dtype=np.float64)))
    return Clustering(labels, loss_curve[-1], loss_curve)


def _equal_split(rng, n, k):
    return rng.permutation(np.arange(n) % k)


def distances(X, basis):
    """Norm of what each row has in the null space of the basis."""
    return np.linalg.norm(X @ null_space(basis), axis=1)
