"""The matrix of a layer in floats, for code that reads it and calls no layer."""

from typing import Any

import keras
from keras import ops

from keras_messi.layers.kinds import is_table, matrix_name
from keras_messi.layers.stored_matrix import StoredMatrix


def multiplied_out(layer: Any) -> Any:
    """The matrix of a layer as a tensor, of which gradients can be taken.

    Args:
        layer: A built Dense or Embedding layer, or one that takes the place of such a
            layer, as `keras_messi` or Keras quantizes it.

    Returns:
        Tensor of shape `(n, d)` in the compute dtype of the layer.
    """
    dtype = layer.compute_dtype
    if isinstance(layer, StoredMatrix):
        return layer.storage.matrix(dtype)
    if layer.quantization_mode is None:
        return ops.cast(getattr(layer, matrix_name(layer)), dtype)
    return _by_calls(layer, dtype)


def _by_calls(layer: keras.Layer, dtype: str) -> Any:
    """The matrix as the layer itself computes it, from whatever form Keras stores."""
    if is_table(layer):
        return layer(ops.arange(layer.input_dim))
    products = layer(ops.eye(layer.input_spec.axes[-1], dtype=dtype))
    return products if layer.bias is None else products - layer.bias
