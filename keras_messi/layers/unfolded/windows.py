"""Kernels of convolutions as matrices, and which of these has the best low ranks."""

import hashlib
import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

Tensor = Any


def unfold_kernel(kernel: np.ndarray, axis: int) -> np.ndarray:
    """The matrix with the first axes of the window in its rows.

    Args:
        kernel: Array of shape `(*window, channels, filters)`.
        axis: How many axes of the window the rows have beside the channels. The columns
            have the others beside the filters.

    Returns:
        Array of shape `(prod(window[:axis]) * channels, prod(window[axis:]) *
        filters)`, channels and filters last in each.
    """
    rows = math.prod(kernel.shape[:axis]) * kernel.shape[-2]
    return np.moveaxis(kernel, -2, axis).reshape(rows, -1)


class Fold(NamedTuple):
    """How a matrix is the kernel of a convolution.

    Attributes:
        rows: Sizes of the first axes of the window, then the channels: the rows of the
            matrix.
        columns: Sizes of the other axes of the window, then the filters.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def kernel(self, matrix: Tensor) -> Tensor:
        """The kernel `(*window, channels, filters)` of which a matrix is the unfolding.

        Args:
            matrix: Tensor of shape `(prod(rows), prod(columns))`.
        """
        kernel = ops.reshape(matrix, (*self.rows, *self.columns))
        return ops.moveaxis(kernel, len(self.rows) - 1, -2)


# The best axis of a kernel by its digest, as a model is asked for its layers often,
# and copies of it have the same kernels.
_BEST: dict[bytes, int] = {}


# Channels and filters that are looked at: evenly spread ones, if there are more.
_MOST = 128


def best_axis(kernel: np.ndarray) -> int:
    """The axis for `unfold_kernel` with the least error at half of the numbers.

    Of wide kernels, a part is looked at.

    Args:
        kernel: Array of shape `(*window, channels, filters)`.
    """
    kernel = np.ascontiguousarray(kernel)
    key = repr(kernel.shape).encode() + hashlib.sha256(kernel.data).digest()
    if key not in _BEST:
        window = kernel.shape[:-2]
        split = [i for i in range(1, len(window)) if math.prod(window[i:]) > 1]
        channels, filters = (-(-size // _MOST) for size in kernel.shape[-2:])
        part = kernel[..., ::channels, ::filters]
        # All axes in the rows come first, so that they are taken in a tie.
        _BEST[key] = min((len(window), *split), key=lambda i: _error_at_half(part, i))
    return _BEST[key]


def _error_at_half(kernel: np.ndarray, axis: int) -> float:
    """Squared error of the best matrix of a rank that takes half of the numbers."""
    matrix = unfold_kernel(kernel, axis).astype(np.float32, copy=False)
    n, d = matrix.shape
    rank = n * d // (2 * (n + d))
    gram = matrix @ matrix.T if n < d else matrix.T @ matrix
    squares = np.linalg.eigvalsh(gram)  # of the singular values, the least first
    return float(np.sum(squares[: len(squares) - rank], dtype=np.float64))
