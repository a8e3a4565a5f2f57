"""l_q Lewis weights: a robust start for sums of distances."""

import numpy as np

from kprojclust._parallel.threads import parallel_map
from kprojclust.losses import LqLoss


def lewis_row_weights(X, q, n_iter=5):
    r"""Row weights of the weighted PCA that starts the loss |r|^q, 0 < q < 2.

    The Lewis weights of X are the fixed point of
    :math:`u_i = (a_i^\top (A^\top U^{1-2/q} A)^{-1} a_i)^{q/2}`; a few iterations, each
    O(n d^2), are enough. The rows are then weighted by :math:`u_i^{1-2/q}`. For q = 1
    the resulting PCA is within a factor of sqrt(pi d / 2) of the least sum of
    distances. That bound was derived for this project and checked numerically; it is
    not from a paper.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    q : float in (0, 2)
    n_iter : int

    Returns
    -------
    weights : ndarray of shape (n_samples,)
        Positive, with mean one over the rows that are not zero.
    """
    X = X.astype(np.float64, copy=False)
    power = 1 - 2 / q
    inside = np.any(X != 0, axis=1)
    A = X[inside]
    if not len(A):
        return np.ones(len(X))
    u = np.ones(len(A))
    for _ in range(n_iter):
        gram = (A * (u**power)[:, np.newaxis]).T @ A
        # The pseudo-inverse: rows that span less than the space are legal.
        inverse = np.linalg.pinv(gram, hermitian=True)
        leverage = np.einsum("ij,ij->i", A @ inverse, A)
        u = np.maximum(leverage, np.finfo(float).tiny) ** (q / 2)
    weights = np.ones(len(X))
    weights[inside] = u**power / np.mean(u**power)
    return weights


def lewis_start(problem, labels):
    """Row weights of the first refit for l_q losses; None is the sample weights."""
    loss, rows = problem.loss, problem.rows
    if not isinstance(loss, LqLoss) or loss.q == 2 or not rows.in_memory:
        return None
    weights = np.array(rows.sample_weight)

    def weigh(c):
        own = np.flatnonzero(labels == c)
        X = rows.X[own]
        if problem.affine and len(own):
            X = X - np.median(X, axis=0)
        weights[own] *= lewis_row_weights(X, loss.q)

    parallel_map(weigh, range(problem.n_clusters))
    return weights
