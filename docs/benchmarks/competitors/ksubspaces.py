"""Ours."""

import warnings

from sklearn.exceptions import ConvergenceWarning

from competitors import Clustering
from kprojclust import KSubspaces


def fit(X, k, j, seed, **parameters) -> Clustering:
    """KSubspaces at its defaults, but for the parameters given."""
    model = KSubspaces(k, j, random_state=seed, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X)
    return Clustering(model.labels_, model.inertia_, model.loss_curve_)
