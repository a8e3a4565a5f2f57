"""How well clusters and subspaces were recovered."""

import numpy as np
from scipy.linalg import subspace_angles
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils.validation import check_consistent_length, column_or_1d

__all__ = ["clustering_accuracy", "principal_angles"]


def clustering_accuracy(labels_true, labels_pred):
    """Share of rows labelled right under the best one-to-one matching of labels.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        True classes.
    labels_pred : array-like of shape (n_samples,)
        Clusters; their names and their number are free.

    Returns
    -------
    accuracy : float
        Between 0 and 1.

    Examples
    --------
    >>> from kprojclust import clustering_accuracy
    >>> clustering_accuracy([0, 0, 1, 1], [1, 1, 0, 2])
    0.75
    """
    labels_true = column_or_1d(labels_true)
    labels_pred = column_or_1d(labels_pred)
    check_consistent_length(labels_true, labels_pred)
    table = contingency_matrix(labels_true, labels_pred)
    matched = linear_sum_assignment(table, maximize=True)
    return float(table[matched].sum() / len(labels_true))


def principal_angles(A, B):
    """Principal angles between the row spaces of two matrices.

    Parameters
    ----------
    A : array-like of shape (n_rows_a, n_features)
        Rows that span the first subspace, such as an entry of ``components_``.
    B : array-like of shape (n_rows_b, n_features)
        Rows that span the second.

    Returns
    -------
    angles : ndarray of shape (min(n_rows_a, n_rows_b),)
        In radians, largest first. All zero if one subspace holds the other.

    Examples
    --------
    >>> import numpy as np
    >>> from kprojclust import principal_angles
    >>> angles = principal_angles([[1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]])
    >>> np.degrees(angles).round(3)
    array([45.])
    """
    A, B = np.asarray(A, dtype=np.float64), np.asarray(B, dtype=np.float64)
    if A.ndim != 2 or B.ndim != 2 or A.shape[1] != B.shape[1]:
        raise ValueError(
            "A and B must be matrices with the same number of columns. "
            f"Got shapes {A.shape} and {B.shape}."
        )
    return subspace_angles(A.T, B.T)
