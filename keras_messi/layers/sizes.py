"""How large layers are: numbers in their weights, and bytes on disk."""

import math
from typing import Any

import keras
import numpy as np

from keras_messi._keras_internals import own_weights
from keras_messi.layers.stored_matrix import StoredMatrix


def count_own_parameters(layer: keras.Layer) -> int:
    """Numbers in the weights of a layer without those of the layers inside it."""
    return count_numbers([layer])


def count_numbers(layers: list[keras.Layer]) -> int:
    """Numbers in the weights of layers, each weight once, in however few bits."""
    numbers: dict[int, int] = {}  # by identity, as layers may share weights
    for layer in layers:
        in_few_bits = _numbers_in_few_bits(layer)
        if in_few_bits is not None:
            numbers[id(layer)] = in_few_bits
            continue
        for weight in own_weights(layer):
            if "int" not in keras.backend.standardize_dtype(weight.dtype):
                numbers[id(weight)] = math.prod(weight.shape)
    return sum(numbers.values())


def _numbers_in_few_bits(layer: keras.Layer) -> int | None:
    """Numbers that the weights of a quantized layer stand for, None of any other."""
    if isinstance(layer, StoredMatrix):
        few_bits = layer.built and layer.storage.plain.quantization
        return layer.num_parameters if few_bits else None
    if layer.quantization_mode in ("int8", "int4"):  # a layer of Keras
        weights = (getattr(layer, x, None) for x in ("kernel", "embeddings", "bias"))
        return sum(math.prod(x.shape) for x in weights if x is not None)
    return None


def stored_bytes(layers: list[keras.Layer]) -> int:
    """Bytes that layers write to disk, taken from the arrays they store."""
    total = 0
    for layer in layers:
        store: dict[str, Any] = {}
        layer.save_own_variables(store)
        for value in store.values():
            dtype = keras.backend.standardize_dtype(value.dtype)
            total += int(np.prod(value.shape)) * _itemsize(dtype)
    return total


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
