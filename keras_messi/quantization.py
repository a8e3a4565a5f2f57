"""Layers of whole models in 8 or 4 bits, and back."""

from typing import Any

import keras

from keras_messi.layers import MessiDense, MessiEmbedding
from keras_messi.layers.kinds import has_matrix
from keras_messi.layers.numbers.integers import BITS
from keras_messi.layers.replacement import copy_layer
from keras_messi.methods.rounding import quantized_whole
from keras_messi.models.adapter import change_layers
from keras_messi.models.keras.surgery import Filters

FACTORED = MessiDense | MessiEmbedding


def quantize(model: Any, mode: str, filters: Filters = None) -> Any:
    """A copy of a model with the weights of some layers in 8 or 4 bits.

    Without filters these are its factored layers. Dense and Embedding layers of Keras
    and of transformers that filters select are quantized by Keras, weights only.
    Activations stay floating-point numbers. What is quantized is not trainable any
    more; `dequantize` makes factors so again.

    Args:
        model: A built model of Keras or of Hugging Face transformers. It is left as it
            is.
        mode: `"int8"` or `"int4"`.
        filters: Which layers, as for `keras_messi.compress`; None means all
            `MessiDense` and `MessiEmbedding` layers that are not quantized. Layers
            with LoRA weights are skipped: merge these first, or quantize before.

    Returns:
        A model of the same class.

    Raises:
        ValueError: The mode is another one, the filters match no such layer, or factors
            are not finite.

    Example:

    >>> import keras, keras_messi
    >>> model = keras.Sequential(
    ...     [keras.Input((20,)), keras_messi.layers.MessiDense(10, 2, rank=3)]
    ... )
    >>> small = keras_messi.quantize(model, "int8")
    >>> small.layers[0].quantization
    'int8'
    """
    if mode not in BITS:
        raise ValueError(f"`mode` must be one of {list(BITS)}. Received: mode={mode!r}")

    def can_be(layer: keras.Layer) -> bool:
        if getattr(layer, "lora_enabled", False):
            return False
        if isinstance(layer, FACTORED):
            return layer.quantization is None
        return filters is not None and has_matrix(layer) and not layer.quantization_mode

    def quantized(layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, FACTORED):
            return quantized_whole(layer, mode)
        copy = copy_layer(layer)
        copy.quantize(mode)
        return copy

    return change_layers(model, filters, can_be, quantized)


def dequantize(model: Any, filters: Filters = None) -> Any:
    """A copy of a model with quantized factors as trainable numbers again.

    Args:
        model: A model of Keras or of Hugging Face transformers with quantized
            `MessiDense` or `MessiEmbedding` layers. It is left as it is.
        filters: Which of these layers, as for `keras_messi.compress`; None means all.

    Returns:
        A model of the same class, which computes the same.

    Raises:
        ValueError: The filters match no such layer.
    """

    def can_be(layer: keras.Layer) -> bool:
        return isinstance(layer, FACTORED) and layer.quantization is not None

    def dequantized(layer: keras.Layer) -> keras.Layer:
        copy = copy_layer(layer)
        copy.dequantize()
        return copy

    return change_layers(model, filters, can_be, dequantized)
