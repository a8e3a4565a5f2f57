"""Factored layers of whole models in 8 or 4 bits, and back."""

from collections.abc import Callable
from typing import Any

import keras

from keras_messi.copying import copy_layer
from keras_messi.families import family_of
from keras_messi.layers import MessiDense, MessiEmbedding
from keras_messi.layers._quantized import BITS
from keras_messi.surgery import Filters, matches


def quantize(model: Any, mode: str, filters: Filters = None) -> Any:
    """A copy of a model with the factors of its factored layers in 8 or 4 bits.

    The other layers stay as they are; activations stay floating-point numbers. What is
    quantized is not trainable any more, until `dequantize`.

    Args:
        model: A built model of Keras or of Hugging Face transformers that holds
            `MessiDense` or `MessiEmbedding` layers. It is left as it is.
        mode: `"int8"` or `"int4"`.
        filters: Which of these layers, as for `keras_messi.compress`; None means all
            that are not quantized.

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
    return _changed(
        model,
        filters,
        lambda layer: layer.quantization is None,
        lambda layer: layer.quantize(mode),
    )


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
    return _changed(
        model,
        filters,
        lambda layer: layer.quantization is not None,
        lambda layer: layer.dequantize(),
    )


def _changed(
    model: Any,
    filters: Filters,
    can_be: Callable[[Any], bool],
    change: Callable[[Any], None],
) -> Any:
    """A copy of a model with a change to the factored layers that can be changed."""
    surgery = family_of(model).surgery
    candidates = [
        place
        for place in surgery.find_layers(model)
        if isinstance(place.layer, MessiDense | MessiEmbedding) and can_be(place.layer)
    ]
    chosen = [place for place in candidates if matches(place, filters)]
    if not chosen:
        raise ValueError(
            f"`filters` must match a factored layer that can be changed. Received: "
            f"filters={filters!r}, and these layers are "
            f"{[place.path for place in candidates]}"
        )
    new_layers: dict[keras.Layer, keras.Layer] = {}
    for place in chosen:
        if place.obstacle:
            raise ValueError(f"Layer {place.path} can't be changed: {place.obstacle}.")
        new_layers[place.layer] = copy_layer(place.layer)
        change(new_layers[place.layer])
    return surgery.replace_layers(model, new_layers)
