"""Numbers as codes of 8 or 4 bits, and back.

A number is `code / 2^(bits - 1) * scale`, with a code from `-2^(bits - 1)` on up to
`2^(bits - 1) - 1` and one scale for each row of a table. Scales have a sign, so that
the number of the greatest size in a row can take the lowest code, which has no
counterpart above zero.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops
from keras.quantizers import pack_int4

Tensor = Any

BITS = {"int8": 8, "int4": 4}
# By what a code is divided, so that no number is greater than its scale.
STEPS = {mode: 2 ** (bits - 1) for mode, bits in BITS.items()}

# Scales to try, as shares of the greatest number of a row: what is above is clipped,
# and all others are told apart more finely.
_SHARES = np.linspace(0.6, 1.0, 9)


def quantize_factors(
    coordinates: Sequence[np.ndarray], bases: Sequence[np.ndarray], mode: str
) -> dict[str, np.ndarray]:
    """Codes and scales of k pairs of factors, under the names that layers store.

    Args:
        coordinates: The k tables `U_c`, of shape `(n_c, j_c)`.
        bases: The k bases `V_c`, of shape `(j_c, d)`.
        mode: `"int8"` or `"int4"`.

    Returns:
        `coordinates_0` and so on, `bases`, both int8, with two codes a byte in int4,
        along the axis of the ranks; `row_scales`, float16 of shape `(n,)`, of size 1 at
        most; and `basis_scales`, float32 of shape `(j_1 + ... + j_k,)`.
    """
    tables, row_scales, scaled_bases = {}, [], []
    for c, (u, v) in enumerate(zip(coordinates, bases, strict=True)):
        u, v = _balance(u, v)
        codes, scales = quantize_rows(u, mode, np.float16)
        tables[f"coordinates_{c}"] = _pack(codes, mode, axis=1)
        row_scales.append(scales)
        scaled_bases.append(v)
    return {
        **tables,
        "row_scales": np.concatenate(row_scales),
        **quantize_bases(np.concatenate(scaled_bases), mode),
    }


def quantize_bases(bases: np.ndarray, mode: str) -> dict[str, np.ndarray]:
    """Codes and scales of all bases, one below the other: `bases`, `basis_scales`."""
    codes, scales = quantize_rows(bases, mode, np.float32)
    return {"bases": _pack(codes, mode, axis=0), "basis_scales": scales}


def _balance(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same product, of a u of size 1 at most and with columns of like spread.

    Columns of u stand for directions of falling weight, and one scale serves them all.
    Divided by their spread, the first would be coded as coarsely as the last, though it
    weighs more; the square root of it was best in between.
    """
    spread = np.sqrt(np.mean(np.square(u, dtype=np.float64), axis=0))
    weights = np.sqrt(np.where(spread > 0, spread, 1))
    greatest = np.max(np.abs(u / weights)) or 1
    weights *= greatest
    return u / weights, v * weights[:, None]


def quantize_rows(
    rows: np.ndarray, mode: str, dtype: type[np.floating]
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of the least squared error in each row, among a few scales.

    Args:
        rows: Array of shape `(n, m)`.
        mode: `"int8"` or `"int4"`.
        dtype: Of the scales.

    Returns:
        Codes, int8 of shape `(n, m)`, and scales of shape `(n,)`.
    """
    steps = STEPS[mode]
    peaks = rows[np.arange(len(rows)), np.argmax(np.abs(rows), axis=1)]
    best_codes = np.zeros(rows.shape, np.int8)
    best_scales = np.zeros(len(rows), dtype)
    least = np.sum(np.square(rows, dtype=np.float64), axis=1)  # that of zeros
    for share in _SHARES:
        scales = _away_from_zero(-share * peaks, dtype)
        width = np.where(scales == 0, 1, scales.astype(np.float64))[:, None] / steps
        codes = np.clip(np.rint(rows / width), -steps, steps - 1)
        errors = np.sum(np.square(rows - codes * width), axis=1)
        better = errors < least
        best_codes[better] = codes[better]
        best_scales[better] = scales[better]
        least = np.minimum(least, errors)
    return best_codes, best_scales


def _away_from_zero(values: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """Round to a dtype, away from zero, so that small scales don't vanish."""
    rounded = values.astype(dtype)
    further = np.nextafter(rounded, np.copysign(dtype(np.inf), rounded))
    return np.where(np.abs(rounded) < np.abs(values), further, rounded)


def _pack(codes: np.ndarray, mode: str, axis: int) -> np.ndarray:
    if mode == "int8":
        return codes
    return ops.convert_to_numpy(pack_int4(codes, axis=axis)[0])


def packed_length(length: int, mode: str) -> int:
    """Bytes that a row or column of that length takes."""
    return -(-length * BITS[mode] // 8)


def whole_numbers(
    codes: Tensor, mode: str, length: int, axis: int, dtype: str
) -> Tensor:
    """Codes as numbers to compute with.

    Args:
        codes: Int8 of shape `(..., n, m)`, two codes a byte in int4.
        mode: `"int8"` or `"int4"`.
        length: Number of codes along the axis.
        axis: The axis along which codes share bytes: -1 or -2.
        dtype: Of the result.
    """
    numbers = ops.cast(codes, dtype)
    if mode == "int8":
        return numbers
    # As keras.quantizers.unpack_int4, with operations that LiteRT and ONNX have, too.
    high = ops.floor(numbers / 16)
    low = numbers - 16 * high
    low = ops.where(low >= 8, low - 16, low)
    shape = list(ops.shape(numbers))
    shape[axis] *= 2
    numbers = ops.reshape(ops.stack([low, high], axis=axis), shape)
    return numbers[..., :length] if axis == -1 else numbers[..., :length, :]
