"""Keras layers as proxies of the layers of another library.

They show a layer to the code that compresses, which knows Keras layers only.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_messi.models.keras.surgery import NamedLayer


def dense_layer(
    path: str, kernel: Any, bias: Any, dtype: str, obstacle: str | None = None
) -> NamedLayer:
    """A proxy of a Dense layer with a kernel of shape `(inputs, units)`."""
    layer = keras.layers.Dense(
        kernel.shape[1], use_bias=bias is not None, name=name_of(path), dtype=dtype
    )
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    if bias is not None:
        layer.bias.assign(bias)
    return _place(path, layer, obstacle)


def embedding_layer(
    path: str, table: Any, dtype: str, obstacle: str | None = None
) -> NamedLayer:
    """A proxy of an Embedding with a table of shape `(rows, width)`."""
    layer = keras.layers.Embedding(*table.shape, name=name_of(path), dtype=dtype)
    layer.build()
    layer.embeddings.assign(table)
    return _place(path, layer, obstacle)


def matrix_layer(path: str, weight: Any, dtype: str) -> NamedLayer:
    """A proxy of a weight with axes that `as_matrix` joins, which is read by code."""
    matrix = keras.ops.reshape(weight, as_matrix(weight.shape))
    return dense_layer(path, matrix, None, dtype)


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Shape of the matrix, as near to a square as can be, that joins axes to two.

    A vector has no such shape, and gives `(1, 1)`.
    """
    cuts = range(1, len(shape))
    sides = [(math.prod(shape[:cut]), math.prod(shape[cut:])) for cut in cuts]
    return max(sides, key=min, default=(1, 1))


def is_matrix(shape: Sequence[int]) -> bool:
    """Whether a weight of a shape has rows and columns, once axes are joined."""
    return min(as_matrix(shape)) > 1


def other_layer(path: str, layer_type: str, weights: Iterable[Any]) -> NamedLayer:
    """A proxy of any other layer: its type and the size of its weights."""
    layer = type(layer_type, (keras.Layer,), {})(name=name_of(path))
    for weight in weights:
        dtype = keras.backend.standardize_dtype(weight.dtype)
        size = (math.prod(weight.shape),)
        layer.add_weight(size, "zeros", dtype, trainable=False)
    return _place(path, layer)


def factored_layer(path: str, layer: keras.Layer) -> NamedLayer:
    """A layer that is compressed already."""
    return _place(path, layer)


def path_of(layer: keras.Layer) -> str:
    """Path in its model of the layer that a proxy belongs to."""
    return layer.place_in_model


def name_of(path: str) -> str:
    """Name of a layer, the last part of its path."""
    return path.replace("/", ".").rpartition(".")[-1] or "model"


def _place(path: str, layer: keras.Layer, obstacle: str | None = None) -> NamedLayer:
    layer.place_in_model = path
    return NamedLayer(path, layer, obstacle)
