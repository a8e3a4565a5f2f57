"""Numbers as levels of 1 to 8 bits, each times the scale of its block, and back.

Uniform levels are the integers from `-2^(bits - 1)` up to `2^(bits - 1) - 1`, divided
by `2^(bits - 1)`. Scales have a sign, so that the number of the greatest size in a
block can take the lowest level, which has no counterpart above zero. Normal levels are
those of least mean squared error for normal numbers (Lloyd-Max).
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from keras import ops

from keras_messi.layers._checks import check_choice, check_positive

MOST_BITS = {"uniform": 8, "normal": 4}
# Positive levels for numbers of variance 1; the others are their negatives.
_NORMAL = {
    1: (0.79788,),
    2: (0.45278, 1.51042),
    3: (0.24509, 0.75601, 1.34391, 2.15195),
    4: (0.1284, 0.38805, 0.65676, 0.94234, 1.25623, 1.61805, 2.06902, 2.73259),
}
# Scales to try, as shares of that by which the greatest number of a block is a level.
_SHARES = np.linspace(0.5, 1.0, 9)
# With normal levels also multiples of the root of the mean square of a block.
_SPREADS = np.linspace(0.6, 1.4, 9)
# Of a scale, which is a float16.
LARGEST = float(np.finfo(np.float16).max)


def check_levels(bits: int, levels: str) -> None:
    """Raise ValueError unless there are levels of so many bits."""
    check_choice("levels", levels, MOST_BITS)
    check_positive("bits", bits)
    if bits > MOST_BITS[levels]:
        raise ValueError(
            f"`bits` must not exceed {MOST_BITS[levels]} with levels={levels!r}. "
            f"Received: bits={bits}"
        )


@cache
def levels_of(bits: int, spacing: str) -> np.ndarray:
    """The levels in rising order, float32 of shape `(2^bits,)`.

    Args:
        bits: 1 to 8, or to 4 with normal levels.
        spacing: `"uniform"` or `"normal"`.
    """
    if spacing == "normal":
        positive = np.array(_NORMAL[bits], np.float32)
        return np.concatenate([-positive[::-1], positive])
    half = 2 ** (bits - 1)
    return np.arange(-half, half, dtype=np.float32) / half


def read_levels(codes: Any, bits: int, spacing: str, dtype: str) -> Any:
    """The levels that codes stand for, a tensor of their shape."""
    if spacing == "uniform":  # faster than a look-up
        half = 2 ** (bits - 1)
        return (ops.cast(codes, dtype) - half) / half
    # A table of two axes, as torch exports a look-up in no other to ONNX.
    levels = ops.convert_to_tensor(levels_of(bits, spacing)[:, np.newaxis], dtype)
    return ops.squeeze(ops.take(levels, ops.cast(codes, "int32"), axis=0), axis=-1)


def nearest_levels(numbers: np.ndarray, bits: int, spacing: str) -> np.ndarray:
    """Index of the level next to each number, as uint8."""
    return np.searchsorted(_middles(bits, spacing), numbers).astype(np.uint8)


def _middles(bits: int, spacing: str) -> np.ndarray:
    """Where the next level begins to be nearer, float32 of shape (2^bits - 1,)."""
    levels = levels_of(bits, spacing)
    return (levels[1:] + levels[:-1]) / 2


def straight_through(numbers: Any, bits: int, spacing: str) -> Any:
    """The levels next to numbers, with the gradient of the numbers themselves.

    Reference:
        - [Bengio et al., 2013](https://arxiv.org/abs/1308.3432)
    """
    middles = ops.convert_to_tensor(_middles(bits, spacing), numbers.dtype)
    fixed = ops.stop_gradient(numbers)
    codes = ops.searchsorted(middles, ops.reshape(fixed, (-1,)))
    codes = ops.reshape(codes, ops.shape(numbers))
    # The difference is exactly zero.
    return read_levels(codes, bits, spacing, numbers.dtype) + (numbers - fixed)


def best_scales(
    blocks: np.ndarray, bits: int, spacing: str, weights: np.ndarray | None = None
) -> np.ndarray:
    """Scales of the least squared error, among a few.

    Numbers above 65,504, the largest float16, are taken for that.

    Args:
        blocks: Array of shape `(m, block_size)`.
        bits: Bits of the levels.
        spacing: Of the levels.
        weights: How much the squared error of each number counts, of a shape that
            broadcasts to that of the blocks.

    Returns:
        Float16 of shape `(m,)`.
    """
    blocks = np.clip(blocks, -LARGEST, LARGEST).astype(np.float32, copy=False)
    weights = np.ones((1, 1), np.float32) if weights is None else weights
    best = np.zeros(len(blocks), np.float32)
    least = np.sum(weights * blocks**2, axis=1)  # that of zeros
    levels = levels_of(bits, spacing)
    for scales in _scales_to_try(blocks, bits, spacing):
        scales = _as_float16(scales)
        near = levels[nearest_levels(_divided(blocks, scales), bits, spacing)]
        errors = np.sum(weights * (blocks - near * scales[:, None]) ** 2, axis=1)
        better = errors < least
        best[better], least[better] = scales[better], errors[better]
    return best.astype(np.float16)


def _scales_to_try(blocks: np.ndarray, bits: int, spacing: str) -> Iterator[np.ndarray]:
    """Scales of all blocks, float32 of shape (m,), one choice after another."""
    peaks = blocks[np.arange(len(blocks)), np.argmax(np.abs(blocks), axis=1)]
    yield from np.outer(_SHARES, peaks / levels_of(bits, spacing)[0])
    if spacing == "normal":
        yield from np.outer(_SPREADS, np.sqrt(np.mean(blocks**2, axis=1)))


def _as_float16(scales: np.ndarray) -> np.ndarray:
    """Scales as they are stored, none infinite, and none zero that was not."""
    rounded = np.clip(scales, -LARGEST, LARGEST).astype(np.float16)
    smallest = np.copysign(np.finfo(np.float16).smallest_subnormal, scales)
    return np.where((rounded == 0) & (scales != 0), smallest, rounded).astype("float32")


def _divided(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return blocks / np.where(scales == 0, 1, scales)[:, None]


def round_to_levels(
    rows: np.ndarray, bits: int, spacing: str, block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each number as the level next to it, with a scale for each block of a row.

    Args:
        rows: Array of shape `(n, width)`. The last block of a row may be shorter.
        bits: Bits of the levels.
        spacing: Of the levels.
        block_size: Numbers in a block.

    Returns:
        Indices of levels, uint8 of shape `(n, width)`, and scales, float16 of shape
        `(n, ceil(width / block_size))`.
    """
    codes, scales = np.empty(rows.shape, np.uint8), []
    for start in range(0, rows.shape[1], block_size):
        block = rows[:, start : start + block_size]
        own = best_scales(block, bits, spacing)
        divided = _divided(block, own.astype(np.float32))
        codes[:, start : start + block_size] = nearest_levels(divided, bits, spacing)
        scales.append(own)
    return codes, np.stack(scales, axis=1)


def from_levels(
    codes: np.ndarray, scales: np.ndarray, bits: int, spacing: str, block_size: int
) -> np.ndarray:
    """The numbers that `round_to_levels` stands for, float32 of shape `(n, width)`."""
    wide = np.repeat(scales.astype(np.float32), block_size, axis=1)
    return levels_of(bits, spacing)[codes] * wide[:, : codes.shape[1]]


@cache
def random_rotation(width: int, seed: int) -> np.ndarray:
    """A random orthogonal matrix, float32 of shape `(width, width)`.

    Numbers of rows that are multiplied by it are about normal.
    """
    normal = np.random.default_rng(seed).normal(size=(width, width))
    orthogonal, triangular = np.linalg.qr(normal)
    # The same on any machine, whichever signs its QR has.
    return (orthogonal * np.sign(np.diag(triangular))).astype(np.float32)
