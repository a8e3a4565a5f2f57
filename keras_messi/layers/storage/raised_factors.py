"""Factors of a matrix plus a product of two others: exact, of higher rank."""

from collections.abc import Sequence

import numpy as np


def add_product(
    coordinates: Sequence[np.ndarray],
    bases: Sequence[np.ndarray],
    a: Sequence[np.ndarray],
    b: np.ndarray,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Factors of `U_c @ V_c + a_c @ b`: `[U_c, a_c]` and `[V_c; b]`.

    A cluster whose rank would exceed d gets its rows themselves and an identity.

    Args:
        coordinates: The k tables `U_c`, of shape `(n_c, j_c)`.
        bases: The k bases `V_c`, of shape `(j_c, d)`.
        a: The k tables `a_c`, of shape `(n_c, r)`.
        b: Array of shape `(r, d)`.

    Returns:
        Tables `(n_c, i_c)` and bases `(i_c, d)`, where `i_c = min(j_c + r, d)`.
    """
    d, tables, raised = b.shape[1], [], []
    for u, v, own in zip(coordinates, bases, a, strict=True):
        if len(v) + len(b) <= d:
            tables.append(np.concatenate([u, own], axis=1))
            raised.append(np.concatenate([v, b]))
        else:
            tables.append(u @ v + own @ b)
            raised.append(np.eye(d, dtype=v.dtype))
    return tables, raised
