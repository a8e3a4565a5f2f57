"""Data whose subspaces are known."""

import numpy as np
from sklearn.utils import check_random_state

from kprojclust._rows.validation import (
    Integral,
    Interval,
    Real,
    check_n_components,
    validate_params,
)

__all__ = ["make_subspaces"]


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "noise": [Interval(Real, 0, None, closed="left")],
        "outlier_fraction": [Interval(Real, 0, 1, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_subspaces(
    n_samples=300,
    n_features=10,
    *,
    n_clusters=3,
    n_components=2,
    noise=0.0,
    outlier_fraction=0.0,
    random_state=None,
):
    """Make points near a union of random linear subspaces.

    The coordinates of a point within its subspace are standard normal.

    Parameters
    ----------
    n_samples : int, default=300
        Number of points, divided evenly among the subspaces.
    n_features : int, default=10
        Dimension of the space.
    n_clusters : int, default=3
        Number of subspaces.
    n_components : int or array-like of shape (n_clusters,), default=2
        Dimension of the subspaces: of all of them, or of each.
    noise : float, default=0.0
        Standard deviation of the normal noise added to every feature.
    outlier_fraction : float, default=0.0
        Share of the points, in [0, 1), that are drawn with no regard to the subspaces,
        at three times the typical length of a point.
    random_state : int, RandomState instance or None, default=None
        Pass an int for reproducible output.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The points, in random order.
    y : ndarray of shape (n_samples,)
        Subspace of each point; -1 for outliers.
    components : list of ndarray of shape (n_components[c], n_features)
        Orthonormal rows spanning each subspace.

    Examples
    --------
    >>> from kprojclust import make_subspaces
    >>> X, y, components = make_subspaces(n_components=[1, 2, 3], random_state=0)
    >>> X.shape, [len(basis) for basis in components]
    ((300, 10), [1, 2, 3])
    """
    rng = check_random_state(random_state)
    dimensions = check_n_components(n_components, n_clusters, n_features)
    components = [
        np.linalg.qr(rng.standard_normal((n_features, j)))[0].T for j in dimensions
    ]
    y = rng.permutation(np.arange(n_samples) % n_clusters)
    X = np.empty((n_samples, n_features))
    for c, basis in enumerate(components):
        X[y == c] = rng.standard_normal((np.sum(y == c), len(basis))) @ basis
    X += noise * rng.standard_normal(X.shape)
    outliers = rng.permutation(n_samples)[: round(outlier_fraction * n_samples)]
    scale = 3 * np.sqrt(dimensions.mean() / n_features)
    X[outliers] = scale * rng.standard_normal((len(outliers), n_features))
    y[outliers] = -1
    return X, y, components
