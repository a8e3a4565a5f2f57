"""A matrix stored with all its numbers, each in a few bits."""

import math
from typing import Any, ClassVar

import keras
from keras import ops

from keras_messi.layers._checks import check_positive, check_seed
from keras_messi.layers.numbers.few_bits import Codes
from keras_messi.layers.numbers.formats import AddWeight, Tensor, add_zeros
from keras_messi.layers.numbers.levels import check_levels, random_rotation
from keras_messi.layers.storage.few_bits.levels import InLevels
from keras_messi.layers.storage.lookup import nan_out_of_range
from keras_messi.layers.storage.table import Table


class Rounded(InLevels, Table):
    """A matrix whose numbers are levels, times a scale for each block.

    It stores a table T: the matrix itself if it is for rows, and otherwise transposed,
    so that blocks run along the inputs of a unit. Number (i, l) of T is
    `levels[codes[i, l]] * scales[i, l // block_size]`. With `rotation`, the rows of the
    matrix are those of T times a random orthogonal matrix, plus `centre`; the matrix
    follows from the seed and is not stored.

    In memory a code takes a byte, on disk as many bits as it has. Nothing is trained,
    unless numbers take the place of codes.
    """

    weights: ClassVar[tuple[str, ...]] = ("codes", "scales", "centre", "quantization")

    def __init__(
        self,
        bits: int,
        block_size: int | None = None,
        levels: str = "uniform",
        rotation: int | None = None,
    ) -> None:
        check_levels(bits, levels)
        if block_size is not None:
            check_positive("block_size", block_size)
        self.bits = int(bits)
        if rotation is not None:
            check_seed("rotation", rotation)
        self.block_size = None if block_size is None else int(block_size)
        self.levels = levels
        self.rotation = None if rotation is None else int(rotation)
        self.quantization = f"int{self.bits}"
        self._numbers = Codes(self.bits, levels)

    @property
    def _scales(self) -> keras.Variable:
        return self.scales

    def build(
        self, add_weight: AddWeight, shape: tuple[int, int], by_rows: bool
    ) -> None:
        self.shape, self._by_rows = shape, by_rows
        n, width = shape if by_rows else shape[::-1]
        self._block = min(self.block_size or width, width)
        self.codes = self._numbers.add_table(add_weight, "codes", (n, width))
        blocks = -(-width // self._block)
        self.scales = add_zeros(add_weight, "scales", (n, blocks), "float16")
        self.centre: keras.Variable | None = None
        if self.rotation is not None:
            self.centre = add_zeros(add_weight, "centre", (width,), "float32")

    def _read(self, codes: Tensor, scales: Tensor, dtype: str) -> Tensor:
        """Rows of the rotated or plain T from their codes and scales."""
        numbers = self._numbers.read(codes, dtype)
        scales = ops.cast(scales, dtype)
        blocks = self.scales.shape[1]
        if blocks > 1:
            # Repeated in a way that torch exports to ONNX.
            wide = ops.expand_dims(scales, -1) * ops.ones((self._block,), dtype)
            wide = ops.reshape(wide, (*ops.shape(codes)[:-1], blocks * self._block))
            scales = wide[..., : self.codes.shape[1]]
        return numbers * scales

    def _turned_back(self, rows: Tensor, dtype: str) -> Tensor:
        """Rows of T from rotated ones."""
        if self.centre is None:
            return rows
        turn = random_rotation(self.codes.shape[1], self.rotation)
        turned = ops.matmul(rows, ops.convert_to_tensor(turn, dtype))
        return turned + ops.cast(self.centre, dtype)

    def table(self, dtype: str) -> Tensor:
        return self._turned_back(self._read(self.codes, self.scales, dtype), dtype)

    def rows(self, ids: Tensor, dtype: str, static: bool = False) -> Tensor:
        if not self._by_rows:
            rows = ops.take(self.matrix(dtype), ids, axis=0)
            return nan_out_of_range(rows, ids, self.shape[0])
        codes = ops.take(self.codes, ids, axis=0)
        # LiteRT looks up no float16.
        scales = ops.take(ops.cast(self.scales, "float32"), ids, axis=0)
        rows = self._turned_back(self._read(codes, scales, dtype), dtype)
        return nan_out_of_range(rows, ids, self.shape[0])

    @property
    def num_parameters(self) -> int:
        centre = 0 if self.centre is None else self.centre.shape[0]
        return math.prod(self.shape) + centre

    def numbers(self) -> dict[str, keras.Variable]:
        named = {"scales": self.scales, "centre": self.centre}
        return {name: x for name, x in named.items() if x is not None}

    def save(self, store: Any, owner: str) -> None:
        store["codes"] = self._numbers.packed(self.codes)
        for name, variable in self.numbers().items():
            store[name] = variable

    def load(self, store: Any, owner: str) -> None:
        self.codes.assign(self._numbers.unpacked(store["codes"], self.codes.shape))
        for name, variable in self.numbers().items():
            variable.assign(store[name])
