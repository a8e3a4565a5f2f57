"""Formats of the numbers of a matrix: floats, or integers with scales."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers.numbers.integers import (
    BITS,
    LEVELS,
    pack,
    packed_length,
    unpack,
)
from keras_messi.layers.numbers.levels import nearest_levels, straight_through

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

    def packed(self, table: keras.Variable, axis: int) -> Any:
        """What is stored of a table."""
        return table

    def unpacked(self, stored: Any, length: int, axis: int) -> Any:
        """A table, `length` along the axis, of what was stored."""
        return stored

    def trained(self, unit: float) -> "Floats":
        """A format that stores the same, of numbers that are trained."""
        return self


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

    def trained(self, unit: float) -> Floats:
        return TrainedIntegers(self.mode, unit)


class TrainedIntegers(Integers):
    """Numbers that are trained; what is read and stored are the integers next to them.

    A number of its scale is held as `unit`, as in `few_bits.TrainedNumbers`.
    """

    def __init__(self, mode: str, unit: float) -> None:
        super().__init__(mode)
        self.unit = unit

    def add_table(
        self, add_weight: AddWeight, name: str, shape: Shape, axis: int, **options: Any
    ) -> keras.Variable:
        floats = {"dtype": "float32", "autocast": False}
        return add_weight(name=name, shape=shape, **options, **floats)

    def read(self, table: Tensor, length: int, axis: int, dtype: str) -> Tensor:
        levels = straight_through(table / self.unit, BITS[self.mode], "uniform")
        return ops.cast(levels * LEVELS[self.mode], dtype)

    def packed(self, table: keras.Variable, axis: int) -> np.ndarray:
        numbers = ops.convert_to_numpy(table) / np.float32(self.unit)
        codes = nearest_levels(numbers, BITS[self.mode], "uniform")
        integers = codes.astype(np.int16) - LEVELS[self.mode]
        return pack(integers.astype(np.int8), self.mode, axis)

    def unpacked(self, stored: Any, length: int, axis: int) -> Any:
        integers = unpack(stored, self.mode, length, axis, "float32")
        return integers * (self.unit / LEVELS[self.mode])


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
