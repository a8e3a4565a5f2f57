"""What users pass as X, checked, as rows of an engine."""

from pathlib import Path

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from kprojclust._rows.blocks import LocalRows, float_like, open_shards
from kprojclust._rows.validation import check_range, check_sample_weight


def check_rows(estimator, X, sample_weight=None):
    """Rows that fit an estimator with ``means_``, in its dtype.

    X is array-like, a memory map, a path of a .npy file or a list of these, or a Dask
    array.
    """
    check_is_fitted(estimator)
    return _engine(estimator, X, sample_weight, estimator.means_.dtype, reset=False)


def check_training_rows(estimator, X, sample_weight=None):
    """Rows to fit an estimator to: float32 stays float32, all else is float64."""
    return _engine(estimator, X, sample_weight, None, reset=True)


def check_training_array(estimator, X):
    """Rows in memory to fit an estimator to, as an array of floats."""
    X = validate_data(estimator, X, dtype=[np.float64, np.float32], order="C")
    check_range(X)
    return X


def _engine(estimator, X, sample_weight, dtype, reset):
    if is_dask(X):
        from kprojclust._rows.dask import dask_rows

        rows = dask_rows(X, sample_weight, dtype)
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        if reset:
            rows.check_finite()
        return rows
    files = _files(X)
    if files:
        validate_data(estimator, files[0], reset=reset, skip_check_array=True)
        dtype = dtype or float_like(np.result_type(*files))
    elif reset:
        X = check_training_array(estimator, X)
        dtype = X.dtype
    else:
        X = validate_data(estimator, X, dtype=dtype, order="C", reset=False)
    n_samples = sum(map(len, files)) if files else len(X)
    weights = check_sample_weight(sample_weight, n_samples, dtype)
    rows = LocalRows(files or [X], weights, dtype)
    if files:
        rows.check_finite()
    return rows


def is_dask(X):
    """Whether X is a Dask array, without importing Dask."""
    return type(X).__module__.split(".")[0] == "dask" and hasattr(X, "to_delayed")


def _files(X):
    """Memory maps that X stands for, none if it is an array in memory."""
    if isinstance(X, str | Path):
        return open_shards([X])
    if isinstance(X, list | tuple) and X and isinstance(X[0], str | Path):
        return open_shards(X)
    if isinstance(X, np.memmap) and X.ndim == 2 and X.size and X.dtype.kind in "biuf":
        return [X]
    return []
