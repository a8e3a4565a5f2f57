"""Formats of the numbers of a matrix: floats, or integers with scales."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers.numbers.integers import BITS, LEVELS, packed_length, unpack

Tensor = Any
Shape = tuple[int, ...]
AddWeight = Callable[..., keras.Variable]  # that of a layer


class Floats:
    """Trainable floating-point numbers in the dtype of the layer's variables."""

    def add_table(
        self, add_weight: AddWeight, name: str, shape: Shape, axis: int, **options: Any
    ) -> keras.Variable:
        """Create the weight of a table, packed along an axis if it can be.

        The options are `initializer` and `regularizer`, for trainable numbers.
        """
        return add_weight(name=name, shape=shape, **options)

    def add_scales(
        self, add_weight: AddWeight, name: str, n: int, dtype: str
    ) -> keras.Variable | None:
        """Create the weight of one scale for each of n rows, if there are any."""
        return None

    def read(self, table: Tensor, length: int, axis: int, dtype: str) -> Tensor:
        """Rows of a table as numbers, `length` along the axis, without their scales."""
        return ops.cast(table, dtype)

    def read_scales(self, scales: Tensor | None, dtype: str) -> Tensor | None:
        """What to multiply the numbers of each row by, if anything."""
        return None


class Integers(Floats):
    """Integers of 8 or 4 bits with a scale for each row; not trainable."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def add_table(
        self, add_weight: AddWeight, name: str, shape: Shape, axis: int, **options: Any
    ) -> keras.Variable:
        packed = list(shape)
        packed[axis] = packed_length(shape[axis], self.mode)
        return add_zeros(add_weight, name, packed, "int8")

    def add_scales(
        self, add_weight: AddWeight, name: str, n: int, dtype: str
    ) -> keras.Variable | None:
        return add_zeros(add_weight, name, [n], dtype)

    def read(self, table: Tensor, length: int, axis: int, dtype: str) -> Tensor:
        return unpack(table, self.mode, length, axis, dtype)

    def read_scales(self, scales: Tensor | None, dtype: str) -> Tensor | None:
        return None if scales is None else ops.cast(scales, dtype) / LEVELS[self.mode]


def add_zeros(
    add_weight: AddWeight, name: str, shape: Sequence[int], dtype: str
) -> keras.Variable:
    """Create a weight that is not trained, to be filled later."""
    frozen = {"dtype": dtype, "trainable": False, "autocast": False}
    return add_weight(name=name, shape=tuple(shape), initializer="zeros", **frozen)


# By the argument `quantization` of a layer.
FORMATS: dict[str | None, Floats] = {None: Floats(), **{x: Integers(x) for x in BITS}}


def as_floats(weight: Any) -> np.ndarray:
    """A weight in float32, or float64 if it has that."""
    array = ops.convert_to_numpy(weight)
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def scaled(x: Tensor, scales: Tensor | None) -> Tensor:
    """x, multiplied by scales if there are any."""
    return x if scales is None else x * scales


def column(scales: Tensor | None) -> Tensor | None:
    """Scales of the rows of a table, of shape `(..., 1)`, if there are any."""
    return None if scales is None else ops.expand_dims(scales, -1)
