"""Problems for the functions under the estimators."""

import numpy as np

from kprojclust import principal_angles
from kprojclust._engine.problem import Problem
from kprojclust._rows.blocks import LocalRows
from kprojclust.losses import SquaredLoss


def squared_problem(X, n_components, sample_weight=None):
    """Linear flats of least squared distance to rows in memory."""
    weight = np.ones(len(X), X.dtype) if sample_weight is None else sample_weight
    rows = LocalRows([X], weight, X.dtype)
    return Problem(rows, np.asarray(n_components), None, SquaredLoss(), 2, False)


def assert_same_subspaces(components, found, atol):
    """Each true subspace is one of those found, up to an angle."""
    for basis in components:
        assert min(principal_angles(basis, other)[0] for other in found) < atol
