"""A matrix stored as integers with a scale a row, entropy coded on disk."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers._checks import check_choice
from keras_messi.layers.numbers.entropy import decode, encode
from keras_messi.layers.numbers.formats import AddWeight, Tensor, add_zeros
from keras_messi.layers.storage.base import Storage
from keras_messi.layers.storage.lookup import nan_out_of_range

# Of integers in memory.
INTEGER_DTYPES = ("int8", "int16")


class EntropyCoded(Storage):
    """A matrix of integers, each times the scale of its row.

    All scales are a step over powers of the fourth root of 2. In memory an integer
    takes one or two bytes, on disk the fewer bits, the more often it occurs. Not
    trainable.
    """

    weights = ("integers", "row_scales")
    quantization = "int8"

    def __init__(self, integer_dtype: str = "int8") -> None:
        check_choice("integer_dtype", integer_dtype, INTEGER_DTYPES)
        self.integer_dtype = integer_dtype

    def build(
        self, add_weight: AddWeight, shape: tuple[int, int], by_rows: bool
    ) -> None:
        self.shape = shape
        self.integers = add_zeros(add_weight, "integers", shape, self.integer_dtype)
        self.row_scales = add_row_scales(add_weight, shape[0])

    def multiply(self, x: Tensor, dtype: str) -> Tensor:
        scaled = x * ops.cast(self.row_scales, dtype)
        return ops.matmul(scaled, ops.cast(self.integers, dtype))

    def multiply_transposed(self, x: Tensor, dtype: str) -> Tensor:
        products = ops.matmul(x, ops.transpose(ops.cast(self.integers, dtype)))
        return products * ops.cast(self.row_scales, dtype)

    def rows(self, ids: Tensor, dtype: str, static: bool = False) -> Tensor:
        rows = ops.cast(ops.take(self.integers, ids, axis=0), dtype)
        # A table of two axes, as torch exports a look-up in no other to ONNX.
        scales = ops.take(ops.expand_dims(self.row_scales, 1), ids, axis=0)
        return nan_out_of_range(rows * ops.cast(scales, dtype), ids, self.shape[0])

    def matrix(self, dtype: str) -> Tensor:
        scales = ops.expand_dims(ops.cast(self.row_scales, dtype), 1)
        return ops.cast(self.integers, dtype) * scales

    @property
    def num_parameters(self) -> int:
        return math.prod(self.shape)

    def numbers(self) -> dict[str, keras.Variable]:
        return {"row_scales": self.row_scales}

    def save(self, store: Any, owner: str) -> None:
        store["integers"] = encode(ops.convert_to_numpy(self.integers))
        save_scales(store, self.row_scales)

    def load(self, store: Any, owner: str) -> None:
        self.integers.assign(decode(store["integers"], self.shape, self.integer_dtype))
        load_scales(store, self.row_scales)


def add_row_scales(add_weight: AddWeight, n: int) -> keras.Variable:
    """Create the weight of one scale for each of n rows."""
    frozen = {"dtype": "float32", "trainable": False, "autocast": False}
    return add_weight(name="row_scales", shape=(n,), initializer="ones", **frozen)


def scales_from(step: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Scales of rows, float32: a step over powers of the fourth root of 2.

    Args:
        step: The largest scale, float32.
        exponents: Integers from 0 to 127.
    """
    return (step * 2.0 ** (-exponents.astype(np.float64) / 4)).astype(np.float32)


def exponents_of(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The step and the exponents of scales, by the next power each.

    Returns:
        Float32 of shape `(1,)`, and int8 of the shape of the scales.
    """
    step = np.max(scales, keepdims=True).astype(np.float32)
    return step, np.round(4 * np.log2(step / scales)).astype(np.int8)


def coded_scales(step: np.ndarray, exponents: np.ndarray) -> dict[str, np.ndarray]:
    """What is stored of the scales that `scales_from` gives."""
    return {"step": step, "exponents": encode(exponents[:, np.newaxis])}


def save_scales(store: Any, scales: keras.Variable) -> None:
    """Write scales that `scales_from` gave."""
    found = coded_scales(*exponents_of(ops.convert_to_numpy(scales)))
    for name, value in found.items():
        store[name] = value


def load_scales(store: Any, scales: keras.Variable) -> None:
    """Read what `save_scales` wrote."""
    exponents = decode(store["exponents"], (scales.shape[0], 1), "int8")
    scales.assign(scales_from(np.asarray(store["step"]), exponents[:, 0]))
