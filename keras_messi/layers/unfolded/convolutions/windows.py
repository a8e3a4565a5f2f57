"""Kernels of convolutions as matrices, and which of these has the best low ranks."""

import hashlib
import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from keras import ops

Tensor = Any


class Fold(NamedTuple):
    """How a matrix is the kernel of a convolution.

    Its rows are some axes of the window, then the channels; its columns are the other
    axes, then the filters.

    Attributes:
        window: Sizes of all axes of the window.
        channels: Number of channels.
        filters: Number of filters.
        row_axes: The axes of the window in the rows, in ascending order.
    """

    window: tuple[int, ...]
    channels: int
    filters: int
    row_axes: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the kernel in the order of the matrix."""
        rank = len(self.window)
        column_axes = [i for i in range(rank) if i not in self.row_axes]
        return (*self.row_axes, rank, *column_axes, rank + 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of these axes."""
        shape = *self.window, self.channels, self.filters
        return tuple(shape[axis] for axis in self.axes)

    @property
    def num_rows(self) -> int:
        """Rows of the matrix."""
        return math.prod(self.sizes[: len(self.row_axes) + 1])

    @property
    def num_columns(self) -> int:
        """Columns of the matrix."""
        return math.prod(self.sizes[len(self.row_axes) + 1 :])

    def kernel(self, matrix: Tensor) -> Tensor:
        """The kernel `(*window, channels, filters)` of which a matrix is the unfolding.

        Args:
            matrix: Tensor of shape `(num_rows, num_columns)`.
        """
        back = np.argsort(self.axes).tolist()
        return ops.transpose(ops.reshape(matrix, self.sizes), back)

    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        """The unfolding of a kernel."""
        return kernel.transpose(self.axes).reshape(self.num_rows, self.num_columns)


# The best axes of a kernel by its digest, as a model is asked for its layers often,
# and copies of it have the same kernels.
_BEST: dict[bytes, tuple[int, ...]] = {}

# Channels and filters that are looked at: evenly spread ones, if there are more.
_MOST = 128


def best_row_axes(kernel: np.ndarray) -> tuple[int, ...]:
    """The axes of the window for the rows, with the least error at half of the numbers.

    Of wide kernels, a part is looked at.

    Args:
        kernel: Array of shape `(*window, channels, filters)`.
    """
    kernel = np.ascontiguousarray(kernel)
    key = repr(kernel.shape).encode() + hashlib.sha256(kernel.data).digest()
    if key not in _BEST:
        channels, filters = (-(-size // _MOST) for size in kernel.shape[-2:])
        part = kernel[..., ::channels, ::filters]
        window = kernel.shape[:-2]
        _BEST[key] = min(_choices(window), key=lambda axes: _error_at_half(part, axes))
    return _BEST[key]


def _choices(window: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Axes for the rows; all of them come first, so that they are taken in a tie."""
    whole = tuple(range(len(window)))
    yield whole
    for count in whole[1:]:
        for axes in combinations(whole, count):
            if any(window[i] > 1 for i in whole if i not in axes):
                yield axes


def _error_at_half(kernel: np.ndarray, row_axes: tuple[int, ...]) -> float:
    """Squared error of the best matrix of a rank that takes half of the numbers."""
    *window, channels, filters = kernel.shape
    matrix = Fold(tuple(window), channels, filters, row_axes).matrix(kernel)
    matrix = matrix.astype(np.float32, copy=False)
    n, d = matrix.shape
    rank = n * d // (2 * (n + d))
    gram = matrix @ matrix.T if n < d else matrix.T @ matrix
    squares = np.linalg.eigvalsh(gram)  # of the singular values, the least first
    return float(np.sum(squares[: len(squares) - rank], dtype=np.float64))
