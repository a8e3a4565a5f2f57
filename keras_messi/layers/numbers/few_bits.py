"""Tables of levels: codes that stand still, or numbers that are trained."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers.numbers.codes import pack_codes, unpack_codes
from keras_messi.layers.numbers.formats import AddWeight, Tensor, add_zeros
from keras_messi.layers.numbers.levels import (
    levels_of,
    nearest_levels,
    read_levels,
    straight_through,
)


class Codes:
    """Codes of levels: a byte each in memory, on disk as many bits as they have."""

    def __init__(self, bits: int, spacing: str) -> None:
        self.bits, self.spacing = bits, spacing

    def add_table(
        self, add_weight: AddWeight, name: str, shape: Sequence[int]
    ) -> keras.Variable:
        """Create the weight of a table."""
        return add_zeros(add_weight, name, shape, "uint8")

    def read(self, rows: Tensor, dtype: str) -> Tensor:
        """Rows of a table as levels, without their scales."""
        return read_levels(rows, self.bits, self.spacing, dtype)

    def packed(self, table: keras.Variable) -> np.ndarray:
        """What is stored of a table."""
        return pack_codes(ops.convert_to_numpy(table), 2**self.bits)

    def unpacked(self, packed: Any, shape: Sequence[int]) -> np.ndarray:
        """A table of what was stored."""
        return unpack_codes(np.asarray(packed), shape, 2**self.bits)


class TrainedNumbers(Codes):
    """Numbers that are trained; what is read and stored are the levels next to them.

    Args:
        bits: Bits of the levels.
        spacing: Of the levels.
        unit: What a level of 1 is held as. With that of the scales, a step of an
            optimizer moves what is read about as far as it moves numbers without
            levels.
    """

    def __init__(self, bits: int, spacing: str, unit: float) -> None:
        super().__init__(bits, spacing)
        self.unit = unit

    def add_table(
        self, add_weight: AddWeight, name: str, shape: Sequence[int]
    ) -> keras.Variable:
        return add_weight(
            name=name,
            shape=tuple(shape),
            initializer="zeros",
            dtype="float32",
            autocast=False,
        )

    def read(self, rows: Tensor, dtype: str) -> Tensor:
        levels = straight_through(rows / self.unit, self.bits, self.spacing)
        return ops.cast(levels, dtype)

    def packed(self, table: keras.Variable) -> np.ndarray:
        numbers = ops.convert_to_numpy(table) / np.float32(self.unit)
        return pack_codes(
            nearest_levels(numbers, self.bits, self.spacing), 2**self.bits
        )

    def unpacked(self, packed: Any, shape: Sequence[int]) -> np.ndarray:
        codes = super().unpacked(packed, shape)
        return levels_of(self.bits, self.spacing)[codes] * np.float32(self.unit)


def unit_of(scales: keras.Variable) -> float:
    """The root of the mean square of scales, or 1 if all are zero."""
    numbers = ops.convert_to_numpy(scales).astype(np.float32)
    return float(np.sqrt(np.mean(numbers**2))) or 1.0
