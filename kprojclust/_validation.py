"""The one file that touches scikit-learn's private validators."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import _check_sample_weight, check_array

__all__ = [
    "Integral",
    "Interval",
    "Real",
    "StrOptions",
    "check_labels",
    "check_n_components",
    "check_sample_weight",
    "fit_context",
    "validate_params",
]


def check_sample_weight(sample_weight, X):
    """Weights as an ndarray of shape (n_samples,), non-negative, not all zero."""
    weights = _check_sample_weight(sample_weight, X, dtype=X.dtype)
    if np.any(weights < 0):
        raise ValueError(
            f"sample_weight must not be negative. Got {weights.min()} as its least."
        )
    if not np.any(weights > 0):
        raise ValueError("sample_weight must have a positive entry. Got all zeros.")
    return weights


def check_n_components(n_components, n_clusters, n_features):
    """Dimensions as an int ndarray of shape (n_clusters,), each in [1, n_features]."""
    dimensions = np.asarray(n_components)
    if dimensions.ndim > 1 or not np.issubdtype(dimensions.dtype, np.integer):
        raise ValueError(
            "n_components must be an int or a sequence of ints, one per cluster. "
            f"Got {n_components!r}."
        )
    if dimensions.ndim == 1 and dimensions.shape != (n_clusters,):
        raise ValueError(
            f"n_components must have one entry per cluster, n_clusters={n_clusters}. "
            f"Got {dimensions.size} entries."
        )
    if dimensions.min() < 1 or dimensions.max() > n_features:
        raise ValueError(
            f"n_components must be between 1 and n_features = {n_features}. "
            f"Got {n_components!r}."
        )
    return np.broadcast_to(dimensions, (n_clusters,)).astype(np.intp)


def check_labels(labels, n_samples, n_clusters, name):
    """Cluster ids as an intp ndarray of shape (n_samples,), each in [0, n_clusters)."""
    labels = check_array(labels, ensure_2d=False, dtype=None, input_name=name)
    if labels.shape != (n_samples,):
        raise ValueError(
            f"{name} must hold one label per row, shape ({n_samples},). "
            f"Got shape {labels.shape}."
        )
    as_ids = labels.astype(np.intp)
    if not np.array_equal(as_ids, labels):
        raise ValueError(f"{name} must hold whole numbers. Got dtype {labels.dtype}.")
    if as_ids.min() < 0 or as_ids.max() >= n_clusters:
        raise ValueError(
            f"{name} must hold labels from 0 to n_clusters - 1 = {n_clusters - 1}. "
            f"Got labels from {as_ids.min()} to {as_ids.max()}."
        )
    return as_ids
