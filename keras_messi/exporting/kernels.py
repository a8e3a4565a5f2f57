"""Kernels of convolutions in a file: matrices whose axes are in another order there."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from keras_messi.exporting.float_twins import SmallMatrix
from keras_messi.layers.unfolded.convolutions.windows import Fold

# Share of the largest weight of a filter that two floats of one number may differ by.
_ROUNDING = 1e-6


class Layout(NamedTuple):
    """The order of the axes of a kernel in a format.

    Attributes:
        axes: "O" for filters, "I" for channels, and "*" for all axes of the window.
    """

    axes: str

    def permutation(self, fold: Fold) -> list[int]:
        """Places of the axes, in this order, among those of a folded matrix."""
        rank = len(fold.window)
        known = {"O": [rank + 1], "I": [rank], "*": list(range(rank))}
        return [fold.axes.index(axis) for name in self.axes for axis in known[name]]


class FoundKernel(NamedTuple):
    """A matrix that a constant of a file is the kernel of.

    Attributes:
        matrix: The matrix.
        sizes: Sizes of the axes that the rows and columns of the matrix are cut into.
        permutation: The order that these have in the constant, but for axes of size 1.
        factors: What the converter multiplied the kernel by, float32 of a shape that
            broadcasts to that of the axes in their new order.
    """

    matrix: SmallMatrix
    sizes: tuple[int, ...]
    permutation: list[int]
    factors: np.ndarray


def find_kernels(
    constant: np.ndarray, matrices: Iterable[SmallMatrix], layout: Layout
) -> list[FoundKernel]:
    """The matrices that a constant is the kernel of: all that are equal.

    If there is none, one that it is up to a factor for each filter.
    """
    compared = [_compared(constant, matrix, layout) for matrix in matrices]
    found = [x for x in compared if x is not None]
    return [x for x in found if np.all(x.factors == 1)] or found[:1]


def _compared(
    constant: np.ndarray, matrix: SmallMatrix, layout: Layout
) -> FoundKernel | None:
    if matrix.fold is None or matrix.numbers.size != constant.size:
        return None
    sizes, order = matrix.fold.sizes, layout.permutation(matrix.fold)
    kernel = matrix.numbers.reshape(sizes).transpose(order)
    if np.squeeze(kernel).shape != np.squeeze(constant).shape:
        return None
    axis = order.index(len(sizes) - 1)
    lines = [
        np.moveaxis(x.reshape(kernel.shape), axis, 0).reshape(sizes[-1], -1)
        for x in (constant, kernel)
    ]
    factors = factors_of_rows(*lines)
    if factors is None:
        return None
    shape = [-1 if i == axis else 1 for i in range(len(order))]
    return FoundKernel(matrix, sizes, order, factors.reshape(shape))


def factors_of_rows(constant: np.ndarray, numbers: np.ndarray) -> np.ndarray | None:
    """What rows were multiplied by, float32 `(rows,)`; None if it is something else."""
    if np.array_equal(constant, numbers):
        return np.ones(len(numbers), np.float32)
    squares = np.sum(numbers.astype(np.float64) ** 2, axis=1)
    products = np.sum(constant.astype(np.float64) * numbers, axis=1)
    factors = np.where(squares > 0, products / np.where(squares > 0, squares, 1), 1)
    near = _ROUNDING * np.max(np.abs(constant), axis=1, keepdims=True)
    if np.any(np.abs(constant - factors[:, np.newaxis] * numbers) > near):
        return None
    return factors.astype(np.float32)
