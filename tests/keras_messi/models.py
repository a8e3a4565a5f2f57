"""Models with what real models have: sharing, nesting, state, operations."""

import keras
import numpy as np


def sequential():
    """Two hidden layers with dropout and batch normalisation between."""
    return keras.Sequential(
        [
            keras.Input((40,)),
            keras.layers.Dense(30, activation="relu", name="first"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, name="drop"),
            keras.layers.Dense(20, activation="tanh", name="second"),
            keras.layers.Dense(3, name="head"),
        ],
        name="tower",
    )


def siamese():
    """Two inputs through one shared, nested model that shares an embedding."""
    tokens = keras.Input((None,), dtype="int32")
    words = keras.layers.Embedding(50, 24, name="words")(tokens)
    pooled = keras.layers.GlobalAveragePooling1D(name="pool")(words)
    encoded = keras.layers.Dense(20, activation="relu", name="project")(pooled)
    encoder = keras.Model(tokens, encoded, name="encoder")
    left = keras.Input((None,), dtype="int32", name="left")
    right = keras.Input((None,), dtype="int32", name="right")
    shared = keras.layers.Dense(16, name="shared")
    a, b = shared(encoder(left)), shared(encoder(right))
    difference = keras.ops.abs(a - b)  # operations without a layer
    return keras.Model([left, right], keras.layers.Dense(2, name="head")(difference))


def composite():
    """Dense layers inside layers that can't be opened: attention, time, a Lambda."""
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(50, 24, name="words")(tokens)
    x = keras.layers.MultiHeadAttention(2, 8, name="attention")(x, x)
    x = keras.layers.TimeDistributed(keras.layers.Dense(20, name="inner"), name="each")(
        x
    )
    x = keras.layers.Lambda(lambda z: z * 2.0, name="double", output_shape=(6, 20))(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(tokens, keras.layers.Dense(30, name="head")(x))


def inputs_of(model, num_rows=4):
    """Random inputs for a model."""
    rng = np.random.default_rng(0)

    def one(tensor):
        shape = [num_rows, *(6 if side is None else side for side in tensor.shape[1:])]
        if "int" in tensor.dtype:
            return rng.integers(0, 50, shape).astype("int32")
        return rng.standard_normal(shape).astype("float32")

    arrays = [one(tensor) for tensor in model.inputs]
    return arrays if len(arrays) > 1 else arrays[0]


def outputs_of(model):
    """What a model computes on its random inputs, as an array."""
    return keras.ops.convert_to_numpy(model(inputs_of(model), training=False))


def snapshot(model):
    """Config and weights, to compare before and after."""
    weights = [keras.ops.convert_to_numpy(w).copy() for w in model.variables]
    return model.get_config(), weights


def assert_unchanged(model, before):
    """Config and weights are bit for bit what they were."""
    config, weights = snapshot(model)
    assert config == before[0]
    assert len(weights) == len(before[1])
    for now, then in zip(weights, before[1], strict=True):
        assert np.array_equal(now, then)
