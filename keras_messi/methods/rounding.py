"""Rounding: all numbers of a matrix in fewer bits, as Keras quantizes them."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi._keras_internals import cheap_collections
from keras_messi.layers.kinds import matrix_shape
from keras_messi.layers.replacement import copy_layer


def quantized_whole(layer: keras.Layer, mode: str) -> keras.Layer:
    """A copy of a Dense or Embedding layer with its weights in 8 or 4 bits.

    Activations stay floating-point numbers.

    Args:
        layer: A built layer. It is left as it is.
        mode: `"int8"` or `"int4"`.
    """
    copy = copy_layer(layer)
    with cheap_collections():
        copy.quantize(mode, config=_weights_only(mode))
    return copy


def _weights_only(mode: str) -> Any:
    from keras import quantizers

    if mode == "int8":
        return quantizers.Int8QuantizationConfig(activation_quantizer=None)
    return quantizers.Int4QuantizationConfig(activation_quantizer=None)


def multiplied_out(layer: keras.Layer) -> np.ndarray:
    """The matrix that a Dense or Embedding layer computes with, however stored."""
    n, _ = matrix_shape(layer)
    if isinstance(layer, keras.layers.Embedding):
        return ops.convert_to_numpy(layer(np.arange(n)))
    activation, layer.activation = layer.activation, None
    try:
        outputs = ops.convert_to_numpy(layer(np.eye(n, dtype="float32")))
    finally:
        layer.activation = activation
    return outputs if layer.bias is None else outputs - ops.convert_to_numpy(layer.bias)
