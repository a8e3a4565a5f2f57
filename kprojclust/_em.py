"""One run of K-subspaces from one start. Knows no estimator."""

from typing import NamedTuple

import numpy as np

from kprojclust._splitting import fill_empty_clusters
from kprojclust._subspaces import fit_subspace, squared_distances


class Run(NamedTuple):
    """Where one run ended."""

    labels: np.ndarray
    components: list
    loss_curve: list
    converged: bool


def assign(X, components):
    """Nearest subspace of every row, and the squared distance to it.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        Ties go to the lowest label.
    costs : ndarray of shape (n_samples,)
    """
    distances = squared_distances(X, components)
    labels = np.argmin(distances, axis=1)
    return labels, np.take_along_axis(distances, labels[:, np.newaxis], 1)[:, 0]


def ksubspaces_single(X, sample_weight, labels, n_components, *, max_iter, tol):
    """Alternate refitting the subspaces and reassigning the rows (Lloyd, EM).

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,)
    labels : ndarray of shape (n_samples,)
        The start.
    n_components : ndarray of shape (n_clusters,)
        Dimension of each subspace.
    max_iter : int
    tol : float
        Relative decrease of the objective below which the run has converged.

    Returns
    -------
    run : Run
        ``labels`` are always those of ``assign(X, components)``.
    """
    loss_curve, converged = [], False
    start = labels
    for _ in range(max_iter):
        components = [
            fit_subspace(X[start == c], sample_weight[start == c], dimension)
            for c, dimension in enumerate(n_components)
        ]
        labels, costs = assign(X, components)
        loss_curve.append(float(np.dot(sample_weight, costs.astype(np.float64))))
        refilled = fill_empty_clusters(X, sample_weight, labels, costs, n_components)
        converged = np.array_equal(refilled, start) or (
            refilled is labels and _has_settled(loss_curve, tol)
        )
        if converged:
            break
        start = refilled
    return Run(labels, components, loss_curve, converged)


def _has_settled(loss_curve, tol):
    """Whether the last step lowered the objective by no more than tol times it."""
    return (
        len(loss_curve) > 1 and loss_curve[-2] - loss_curve[-1] <= tol * loss_curve[-2]
    )
