"""Clusterings to measure side by side, one a file.

Each file has a function ``fit(X, k, j, seed)`` that finds k clusters, with subspaces of
dimension j where the method has any, and returns a `Clustering`. Adding a competitor is
adding a file.
"""

from typing import NamedTuple

import numpy as np
from sklearn.utils.extmath import row_norms


class Clustering(NamedTuple):
    """What a competitor found.

    The objective is the sum of squared distances of the rows to what stands for their
    clusters; the curve has its value after each iteration, as far as a method tells.
    """

    labels: np.ndarray
    objective: float
    loss_curve: list[float]


def energy(X: np.ndarray) -> float:
    """Sum of squares of all entries."""
    return float(row_norms(X, squared=True).sum(dtype=np.float64))
