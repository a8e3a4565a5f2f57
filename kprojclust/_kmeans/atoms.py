"""Rows so near one another that they are to share a centre, as one row."""

from typing import NamedTuple

import numpy as np


class Atoms(NamedTuple):
    """Distinct rows, each with the weight of all that it stands for."""

    X: np.ndarray  # (n_atoms, n_features)
    weights: np.ndarray  # (n_atoms,)
    members: np.ndarray  # (n_samples,) the atom of each row


def consolidate(X, row_weights, eps):
    """Atoms of the rows that `snap` moves to one place; eps = 0 is for equal rows."""
    found, members = np.unique(snap(X, eps), axis=0, return_inverse=True)
    members = members.reshape(-1)
    return Atoms(found, np.bincount(members, row_weights), members)


def snap(X, eps):
    """Rows moved by no more than eps, to the nearest point of a cubic grid."""
    if eps == 0:
        return X
    # Half the diagonal of a cube is eps.
    side = X.dtype.type(2 * eps / np.sqrt(X.shape[1]))
    return np.rint(X / side) * side
