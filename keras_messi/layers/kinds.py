"""The matrix of a layer: the weight that can be replaced by a smaller form of it."""

from typing import Any

import keras
import numpy as np

# Name of the weight that is the matrix; its rows are those of inputs or tokens.
_NAMES: dict[type, str] = {
    keras.layers.Dense: "kernel",
    keras.layers.Embedding: "embeddings",
    keras.layers.ReversibleEmbedding: "embeddings",
}


def by_kind(dense: type, embedding: type) -> dict[type, type]:
    """The class that replaces each kind of layer."""
    return {kind: dense if kind is keras.layers.Dense else embedding for kind in _NAMES}


def plain_type(layer: keras.Layer) -> type:
    """The class whose code a layer runs: its own, unless that is only a new name.

    A subclass with code of its own may compute something else.
    """
    return next(cls for cls in type(layer).__mro__ if _has_code(cls))


def _has_code(cls: type) -> bool:
    code = (property, classmethod, staticmethod)
    return any(callable(x) or isinstance(x, code) for x in vars(cls).values())


def has_matrix(layer: keras.Layer) -> bool:
    """Whether the layer is built and of a type whose matrix can be factored."""
    return plain_type(layer) in _NAMES and layer.built


def kind_with_matrix(layer: keras.Layer) -> type | None:
    """The class with a matrix that a layer is of, be it with code of its own."""
    return next((kind for kind in _NAMES if isinstance(layer, kind)), None)


def is_table(layer: keras.Layer) -> bool:
    """Whether the rows of the matrix of a layer are looked up."""
    return matrix_name(layer) == "embeddings"


def matrix_name(layer: keras.Layer) -> str:
    """Name of the weight that is the matrix of a layer."""
    return _NAMES[plain_type(layer)]


def read_matrix(layer: keras.Layer) -> np.ndarray:
    """The matrix of a layer as float32 or float64, rows to be clustered."""
    matrix = keras.ops.convert_to_numpy(_matrix(layer))
    return matrix.astype(np.result_type(matrix.dtype, np.float32), copy=False)


def matrix_shape(layer: keras.Layer) -> tuple[int, int]:
    """Shape (n, d) of the matrix of a layer."""
    n, d = _matrix(layer).shape
    return int(n), int(d)


def _matrix(layer: keras.Layer) -> Any:
    return getattr(layer, matrix_name(layer))
