"""The one file that touches scikit-learn's private validators."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)
from sklearn.utils.validation import _check_sample_weight, check_array

__all__ = [
    "HasMethods",
    "Integral",
    "Interval",
    "Real",
    "StrOptions",
    "check_bases",
    "check_centers",
    "check_codes",
    "check_labels",
    "check_max_parameters",
    "check_n_components",
    "check_n_samples",
    "check_range",
    "check_sample_weight",
    "fit_context",
    "is_list_of_bases",
    "validate_params",
]


# Least and most that the largest entry of rows may be, so that neither squares of
# squares, nor sums of them over many rows, overflow or vanish.
_RANGES = {"float32": (1e-12, 1e15), "float64": (1e-70, 1e70)}


def check_range(X):
    """Raise ValueError if squares of entries may overflow, or all of them vanish."""
    least, most = _RANGES[X.dtype.name]
    largest = float(max(X.max(), -X.min()))
    if largest > most or 0 < largest < least:
        raise ValueError(
            f"X must have entries that can be multiplied in {X.dtype}: the largest "
            f"must be between {least} and {most}, or zero. Got {largest:.3g}. Divide X "
            "by it."
        )


def check_sample_weight(sample_weight, n_samples, dtype):
    """Weights as an ndarray of shape (n_samples,), non-negative, not all zero."""
    if sample_weight is None:
        # Takes no memory.
        return np.broadcast_to(np.ones((), dtype=dtype), (n_samples,))
    rows = np.empty((n_samples, 0))
    weights = _check_sample_weight(sample_weight, rows, dtype=dtype)
    if np.any(weights < 0):
        raise ValueError(
            f"sample_weight must not be negative. Got {weights.min()} as its least."
        )
    if not np.any(weights > 0):
        raise ValueError("sample_weight must have a positive entry. Got all zeros.")
    return weights


def check_n_components(n_components, n_clusters, n_features, least=1):
    """Dimensions as an int ndarray of shape (n_clusters,), each in [least, d]."""
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
    if dimensions.min() < least or dimensions.max() > n_features:
        raise ValueError(
            f"n_components must be between {least} and n_features = {n_features}. "
            f"Got {n_components!r}."
        )
    return np.broadcast_to(dimensions, (n_clusters,)).astype(np.intp)


def check_n_samples(n_samples, n_clusters, name):
    """Raise ValueError if there are fewer rows than clusters."""
    if n_samples < n_clusters:
        raise ValueError(
            f"n_samples={n_samples} must not be below {name}={n_clusters}."
        )


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


def check_max_parameters(max_parameters, n_clusters, shape, affine, p):
    """Raise ValueError if the budget is too small for one direction."""
    n_samples, n_features = shape
    # A cluster of one row can have a direction of its own.
    least = 1 + n_features + (n_clusters * n_features if affine else 0)
    if max_parameters < least:
        raise ValueError(
            "max_parameters must be enough for one direction of one row, "
            f"{least} numbers. Got {max_parameters}."
        )
    if p != 2:
        raise ValueError(f"max_parameters needs p=2. Got p={p}.")


def is_list_of_bases(init):
    """Whether a start is a list of matrices rather than an array of labels."""
    return isinstance(init, list | tuple) and np.ndim(init[0]) == 2


def check_bases(init, n_clusters, n_features, dtype):
    """Bases with orthonormal rows, of the given dtype, spanning what was given."""
    if len(init) != n_clusters:
        raise ValueError(
            f"init must have one basis per cluster, n_clusters={n_clusters}. "
            f"Got {len(init)}."
        )
    bases = [check_array(basis, dtype=dtype, input_name="init") for basis in init]
    for basis in bases:
        if basis.shape[1] != n_features:
            raise ValueError(
                f"init must have bases with n_features={n_features} columns. "
                f"Got shape {basis.shape}."
            )
    return [np.linalg.qr(basis.T)[0].T for basis in bases]


def check_centers(init, n_clusters, n_features, dtype):
    """Centres to start from, of the given dtype."""
    centers = check_array(init, dtype=dtype, copy=True, input_name="init")
    if centers.shape != (n_clusters, n_features):
        raise ValueError(
            f"init must have one centre per cluster, shape ({n_clusters}, "
            f"{n_features}). Got shape {centers.shape}."
        )
    return centers


def check_codes(codes, n_subvectors, n_codewords):
    """Codes as an ndarray of whole numbers of shape (n_samples, n_subvectors)."""
    codes = check_array(codes, dtype=None, input_name="codes")
    if codes.shape[1] != n_subvectors or codes.dtype.kind not in "iu":
        raise ValueError(
            f"codes must be whole numbers of shape (n_samples, {n_subvectors}). "
            f"Got {codes.dtype} of shape {codes.shape}."
        )
    if codes.min() < 0 or codes.max() >= n_codewords:
        raise ValueError(
            f"codes must lie between 0 and n_codewords - 1 = {n_codewords - 1}. "
            f"Got codes from {codes.min()} to {codes.max()}."
        )
    return codes
