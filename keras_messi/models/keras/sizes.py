"""How large models of Keras are: numbers in their weights, and bytes on disk."""

import keras

from keras_messi.layers import sizes
from keras_messi.models.keras.altered import all_layers


def count_parameters(model: keras.Layer) -> int:
    """Numbers in the weights of a layer or model, in however few bits each.

    Integers such as cluster ids and the scales of quantized weights are none of them.
    """
    return sizes.count_numbers(all_layers(model))


def stored_bytes(model: keras.Layer) -> int:
    """Bytes that a model writes to disk for its weights."""
    return sizes.stored_bytes(all_layers(model))
