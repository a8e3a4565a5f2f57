"""Numbers as integers of 8 or 4 bits, packed, and back.

A number is `integer / 2^(bits - 1) * scale`, with an integer from `-2^(bits - 1)` up to
`2^(bits - 1) - 1` and one scale for each row of a table. Scales have a sign, so that
the number of the greatest size in a row can take the lowest integer, which has no
counterpart above zero.
"""

from typing import Any

import numpy as np
from keras import ops
from keras.quantizers import pack_int4

Tensor = Any

BITS = {"int8": 8, "int4": 4}
# What integers are divided by, so that no number is greater than its scale.
LEVELS = {mode: 2 ** (bits - 1) for mode, bits in BITS.items()}

# Scales to try, as shares of the greatest number of a row: what is above is clipped,
# and all others are told apart more finely.
_SHARES = np.linspace(0.6, 1.0, 9)


def quantize_rows(
    rows: np.ndarray, mode: str, dtype: type[np.floating]
) -> tuple[np.ndarray, np.ndarray]:
    """Integers and scales of the least squared error in each row, among a few scales.

    Of rows `(n, m)`: int8 of shape `(n, m)`, and scales `(n,)` of the dtype.
    """
    levels = LEVELS[mode]
    peaks = rows[np.arange(len(rows)), np.argmax(np.abs(rows), axis=1)]
    best = np.zeros(rows.shape, np.int8)
    best_scales = np.zeros(len(rows), dtype)
    least = np.sum(np.square(rows, dtype=np.float64), axis=1)  # that of zeros
    for share in _SHARES:
        scales = _away_from_zero(-share * peaks, dtype)
        width = np.where(scales == 0, 1, scales.astype(np.float64))[:, None] / levels
        integers = np.clip(np.rint(rows / width), -levels, levels - 1)
        errors = np.sum(np.square(rows - integers * width), axis=1)
        better = errors < least
        best[better] = integers[better]
        best_scales[better] = scales[better]
        least = np.minimum(least, errors)
    return best, best_scales


def _away_from_zero(values: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """Round to a dtype, away from zero, so that small scales don't vanish."""
    rounded = values.astype(dtype)
    further = np.nextafter(rounded, np.copysign(dtype(np.inf), rounded))
    return np.where(np.abs(rounded) < np.abs(values), further, rounded)


def pack(integers: np.ndarray, mode: str, axis: int) -> np.ndarray:
    """Integers as int8, in int4 two of them a byte along an axis."""
    if mode == "int8":
        return integers
    return ops.convert_to_numpy(pack_int4(integers, axis=axis)[0])


def packed_length(length: int, mode: str) -> int:
    """Bytes that a row or column of that length takes."""
    return -(-length * BITS[mode] // 8)


def unpack(packed: Tensor, mode: str, length: int, axis: int, dtype: str) -> Tensor:
    """The integers that were packed, in a dtype to compute in.

    There are `length` of them along the axis that they are packed along, -1 or -2.
    """
    numbers = ops.cast(packed, dtype)
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
