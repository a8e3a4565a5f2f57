"""What one run of K-subspaces is to minimise."""

from typing import Any, NamedTuple

import numpy as np

from kprojclust._geometry.subspaces import dimensions_of


class Problem(NamedTuple):
    """Rows, and the objective sum_i w_i rho(|x_i - P x_i|_p) of their clusters."""

    rows: Any  # an engine, such as LocalRows
    n_components: np.ndarray  # (n_clusters,); ignored under a budget
    max_parameters: int | None
    loss: Any
    p: float
    affine: bool

    @property
    def n_clusters(self):
        """Number of flats."""
        return len(self.n_components)

    @property
    def n_features(self):
        """Number of columns."""
        return self.rows.shape[1]


def refits_from_rows(shape, n_clusters, p):
    """Whether a refit looks at the rows: few of them, or p != 2.

    Fewer than n_clusters * n_features rows are fewer numbers than a matrix of second
    moments for each cluster.
    """
    n_samples, n_features = shape
    return p != 2 or n_samples < n_clusters * n_features


def majorising_weights(sample_weight, loss, residuals):
    """Sample weights times the slopes of the loss over the squared residuals."""
    weights = sample_weight * loss.weights(residuals)
    return weights.astype(residuals.dtype, copy=False)


def stored_numbers(sizes, flats, affine):
    """Numbers to store the projected rows: sum of j_c (n_c + d), and the means."""
    n_features = len(flats[0].mean)
    means = n_features * len(flats) if affine else 0
    return int(dimensions_of(flats) @ (sizes + n_features)) + means
