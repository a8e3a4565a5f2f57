"""Factors of a matrix as integers with scales, chosen so that little is lost."""

from collections.abc import Sequence

import numpy as np

from keras_messi.layers.numbers.integers import pack, quantize_rows


def quantize_factors(
    coordinates: Sequence[np.ndarray], bases: Sequence[np.ndarray], mode: str
) -> dict[str, np.ndarray]:
    """Integers and scales of k pairs of factors, under the names that layers store.

    Args:
        coordinates: The k tables `U_c`, of shape `(n_c, j_c)`.
        bases: The k bases `V_c`, of shape `(j_c, d)`.
        mode: `"int8"` or `"int4"`.

    Returns:
        `coordinates_0` and so on, `bases`, both int8, packed along the axis of the
        ranks; `row_scales`, float16 of shape `(n,)`, of size 1 at
        most; and `basis_scales`, float32 of shape `(j_1 + ... + j_k,)`.
    """
    tables, row_scales, scaled_bases = {}, [], []
    for c, (u, v) in enumerate(zip(coordinates, bases, strict=True)):
        u, v = _balance(u, v)
        integers, scales = quantize_rows(u, mode, np.float16)
        tables[f"coordinates_{c}"] = pack(integers, mode, axis=1)
        row_scales.append(scales)
        scaled_bases.append(v)
    return {
        **tables,
        "row_scales": np.concatenate(row_scales),
        **quantize_bases(np.concatenate(scaled_bases), mode),
    }


def quantize_bases(bases: np.ndarray, mode: str) -> dict[str, np.ndarray]:
    """Integers and scales of all bases, as `bases` and `basis_scales`."""
    integers, scales = quantize_rows(bases, mode, np.float32)
    return {"bases": pack(integers, mode, axis=0), "basis_scales": scales}


def _balance(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same product, of a u of size 1 at most and with columns of like spread.

    Columns of u belong to directions of falling weight, and one scale serves them all.
    Divided by their spread, the first would be rounded as coarsely as the last, though
    it weighs more; the square root of it was best in between.
    """
    spread = np.sqrt(np.mean(np.square(u, dtype=np.float64), axis=0))
    weights = np.sqrt(np.where(spread > 0, spread, 1))
    greatest = np.max(np.abs(u / weights)) or 1
    weights *= greatest
    return u / weights, v * weights[:, None]
