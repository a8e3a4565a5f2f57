"""Models that people write themselves, of the layers that hold matrices."""

from typing import Any

import keras
import numpy as np
from keras import layers

VOCABULARY, WIDTH, LENGTH = 500, 32, 12


def _of_tokens(*middle: Any) -> Any:
    """A classifier of tokens, with some layers between the table and the head."""
    model = keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(VOCABULARY, WIDTH),
            *middle,
            layers.Dense(5),
        ]
    )
    return model, np.random.default_rng(0).integers(0, VOCABULARY, (8, LENGTH))


def _attention() -> Any:
    ids = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(VOCABULARY, WIDTH)(ids)
    x = x + layers.MultiHeadAttention(4, 8)(x, x)
    x = x + layers.GroupQueryAttention(8, 4, 2)(x, x)
    outputs = layers.Dense(5)(layers.GlobalAveragePooling1D()(x))
    data = np.random.default_rng(0).integers(0, VOCABULARY, (8, LENGTH))
    return keras.Model(ids, outputs), data


def _images() -> Any:
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.SeparableConv2D(48, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, strides=2, groups=4, activation="relu"),
            layers.Conv2DTranspose(24, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            # With random weights, the averages of all images are nearly the same.
            layers.LayerNormalization(),
            layers.Dense(5),
        ]
    )
    x = np.random.default_rng(0).standard_normal((8, 16, 16, 3)).astype("float32")
    return model, x


FORMATS = ("onnx", "litert")
NETWORKS = {
    "LSTM": lambda: _of_tokens(layers.LSTM(WIDTH)),
    "GRU": lambda: _of_tokens(layers.GRU(WIDTH)),
    "SimpleRNN": lambda: _of_tokens(layers.SimpleRNN(WIDTH)),
    "Bidirectional": lambda: _of_tokens(layers.Bidirectional(layers.LSTM(WIDTH))),
    "MultiHeadAttention and GroupQueryAttention": _attention,
    "Conv1D": lambda: _of_tokens(
        layers.Conv1D(WIDTH, 3, activation="relu"),
        layers.Conv1D(WIDTH, 3, dilation_rate=2, activation="relu"),
        layers.GlobalMaxPooling1D(),
    ),
    "EinsumDense": lambda: _of_tokens(
        layers.EinsumDense("abc,cde->abde", (LENGTH, 4, 8), bias_axes="de"),
        layers.EinsumDense("abde,dec->abc", (LENGTH, WIDTH), bias_axes="c"),
        layers.GlobalAveragePooling1D(),
    ),
    "convolutions": _images,
}
