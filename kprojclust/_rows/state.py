"""What is known of each row during a run."""

from typing import NamedTuple

import numpy as np


class RowState(NamedTuple):
    """What is known of each row; an engine may hold it in a form of its own."""

    sample_weight: np.ndarray  # (n_samples,)
    labels: np.ndarray  # (n_samples,) cluster
    residuals: np.ndarray  # (n_samples,) distance to the flat of the cluster
    gaps: np.ndarray  # (n_samples,) 1 - residual / distance to the next best flat
    row_weights: np.ndarray  # (n_samples,) weight in the next refit


def is_constant(sample_weight):
    """Whether no weights were given, so that all are one."""
    return sample_weight.strides == (0,)
