"""Models with what real models have: sharing, nesting, state, operations.

Imported in a fresh process, it registers the classes that saved models need.
"""

import keras
import numpy as np

from keras_messi.calibration.statistics import InputMoments

register = keras.saving.register_keras_serializable("tests")


def moments_of(rows):
    """What is known of the inputs of a layer that are rows of an array."""
    covariance = np.cov(rows, rowvar=False, bias=True)
    return InputMoments(len(rows), rows.mean(axis=0), covariance.astype("float32"))


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


@register
class Block(keras.layers.Layer):
    """Two Dense layers in a list, a third in a model, one weight of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.steps = [keras.layers.Dense(2 * units, "relu"), keras.layers.Dense(units)]
        self.gate = keras.Sequential([keras.layers.Dense(units, "sigmoid")])

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(self.units,), initializer="ones")
        self.steps[0].build(input_shape)
        self.steps[1].build((*input_shape[:-1], 2 * self.units))
        self.gate.build(input_shape)

    def call(self, inputs):
        x = inputs
        for step in self.steps:
            x = step(x)
        return inputs + self.scale * x * self.gate(inputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class Tower(keras.Model):
    """A subclassed model with its layers in attributes, lists, dicts and blocks."""

    def __init__(self, units=24, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.words = keras.layers.Embedding(50, units)
        self.blocks = [Block(units), Block(units)]
        self.each = keras.layers.TimeDistributed(keras.layers.Dense(units))
        self.again = self.blocks[0]  # one block in two places
        self.heads = {
            "left": keras.layers.Dense(20),
            "right": (keras.layers.Dense(20), keras.layers.Dropout(0.5)),
        }

    def call(self, inputs, training=None):
        x = self.words(inputs)
        for block in [*self.blocks, self.again]:
            x = block(x)
        x = keras.ops.mean(self.each(x), axis=1)
        dense, dropout = self.heads["right"]
        return self.heads["left"](x) + dropout(dense(x), training=training)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class ReadingHead(keras.layers.Layer):
    """Ties its logits to an embedding by reading a weight of it."""

    def __init__(self, embedding, weight, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.weight = weight

    def call(self, inputs):
        table = getattr(self.embedding, self.weight)
        return keras.ops.matmul(inputs, keras.ops.transpose(table))


@register
class Tied(keras.Model):
    """An embedding that a head reads directly, and a Dense layer."""

    def __init__(self, weight="embeddings", **kwargs):
        super().__init__(**kwargs)
        self.weight = weight
        self.words = keras.layers.Embedding(50, 24)
        self.dense = keras.layers.Dense(24)
        self.head = ReadingHead(self.words, weight)

    def call(self, inputs):
        return self.head(self.dense(self.words(inputs)))

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


def tied(weight="embeddings"):
    """A built Tied."""
    model = Tied(weight)
    model(inputs_of(model))
    return model


@register
class Pair(keras.Model):
    """A model of two inputs, which Keras alone could not build when it loads it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = keras.layers.Embedding(50, 24)
        self.numbers = keras.layers.Dense(24)
        self.block = Block(24)

    def call(self, tokens, numbers):
        x = keras.ops.mean(self.words(tokens), axis=1)
        return self.block(x + self.numbers(numbers))


def subclassed():
    """A built Tower."""
    model = Tower(name="tower")
    model(inputs_of(model))
    return model


def with_blocks():
    """A graph around blocks, one of them used twice."""
    inputs = keras.Input((6, 24))
    block = Block(24, name="block")
    x = block(block(inputs))
    x = Block(24, name="other")(x)
    return keras.Model(inputs, keras.layers.Dense(20, name="head")(x))


ALL = [sequential, siamese, composite, subclassed, with_blocks]


def inputs_of(model, num_rows=4):
    """Random inputs for a model."""
    rng = np.random.default_rng(0)
    if isinstance(model, Tower | Tied):
        return rng.integers(0, 50, (num_rows, 6)).astype("int32")

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
