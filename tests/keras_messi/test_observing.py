"""What layers receive, and what models compute with others in their place."""

import keras
import numpy as np
import pytest

from keras_messi import RoundingConfig
from keras_messi.layers.unfolded.base import layer_in_model
from keras_messi.methods.registry import compress_layer
from keras_messi.models.keras.observing import observe_layers, substitute_layers
from keras_messi.models.keras.surgery import find_layers, replace_layers
from tests.keras_messi import models

BACKEND = keras.backend.backend()


def received(model, *batches, layers=None):
    """What each layer is called on, as arrays by path."""
    seen = {place.path: [] for place in find_layers(model)}
    observers = {
        place.layer: lambda x, path=place.path: seen[path].append(array(x))
        for place in find_layers(model)
        if isinstance(place.layer, keras.layers.Dense | keras.layers.Embedding)
    }
    with observe_layers(model, observers) as run:
        for batch in batches:
            run(batch)
    return {path: arrays for path, arrays in seen.items() if arrays}


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("make", models.ALL)
def test_every_layer_that_runs_is_seen_and_the_model_is_unchanged(make):
    model = make()
    # The outputs first: how Python writes the code of a Lambda depends on its use.
    outputs, before = models.outputs_of(model), models.snapshot(model)
    in_model = {place.path: layer_in_model(place.layer) for place in places(model)}
    attributes = {path: list(vars(layer)) for path, layer in in_model.items()}
    seen = received(model, models.inputs_of(model))
    assert list(seen) == [place.path for place in places(model)]
    models.assert_unchanged(model, before)
    assert np.array_equal(models.outputs_of(model), outputs)
    for path, layer in in_model.items():
        assert list(vars(layer)) == attributes[path]


def places(model):
    kinds = keras.layers.Dense | keras.layers.Embedding
    return [place for place in find_layers(model) if isinstance(place.layer, kinds)]


def test_inputs_are_those_that_the_layers_before_give():
    model = models.sequential()
    x = models.inputs_of(model)
    seen = received(model, x)
    assert np.array_equal(seen["first"], [x])
    for name, before in (("second", "norm"), ("head", "second")):
        part = keras.Model(model.inputs[0], model.get_layer(before).output)
        expected = array(part(x, training=False))
        np.testing.assert_allclose(seen[name], [expected], atol=1e-6)


def test_a_shared_layer_is_seen_at_each_call():
    model = models.siamese()
    left, right = models.inputs_of(model)
    seen = received(model, [left, right])
    assert {x.tobytes() for x in seen["encoder/words"]} == {
        left.tobytes(),
        right.tobytes(),
    }
    assert [x.shape for x in seen["shared"]] == [(4, 20), (4, 20)]


def compiled(function):
    """A function as the backend compiles it."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    import torch

    return torch.compile(function, backend="eager")


class Compiled(keras.Model):
    """A model that runs a compiled function."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4)
        self.inside = compiled(lambda x: self.dense(x))

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.inside(inputs)


def test_layers_in_functions_compiled_before_are_seen():
    model, x = Compiled(), np.ones((5, 3), "float32")
    expected = array(model(x))
    assert np.array_equal(received(model, x)["dense"], [x])
    np.testing.assert_allclose(array(model(x)), expected, atol=1e-6)


class Cell(keras.layers.Layer):
    """A recurrent cell that is a Dense layer."""

    def __init__(self):
        super().__init__()
        self.state_size = 3
        self.dense = keras.layers.Dense(3)

    def build(self, input_shape):
        self.dense.build((None, input_shape[-1] + 3))

    def call(self, inputs, states):
        outputs = self.dense(keras.ops.concatenate([inputs, states[0]], axis=-1))
        return outputs, [outputs]


def test_layers_in_loops_are_seen_at_each_step():
    model = keras.Sequential([keras.Input((5, 2)), keras.layers.RNN(Cell())])
    x = np.random.default_rng(0).standard_normal((4, 5, 2)).astype("float32")
    [steps] = received(model, x).values()
    # TensorFlow and torch try the first step out beforehand.
    for i, step in enumerate(steps[-5:]):
        assert np.array_equal(step[:, :2], x[:, i])


def test_reverse_calls_of_an_embedding_are_no_look_ups():
    tokens = keras.Input((6,), dtype="int32")
    layer = keras.layers.ReversibleEmbedding(20, 8, name="words")
    model = keras.Model(tokens, layer(layer(tokens), reverse=True))
    x = np.arange(12).reshape(2, 6)
    assert np.array_equal(received(model, x)["words"], [x])


class Remembering(keras.layers.Layer):
    """A layer that counts its calls."""

    def build(self, input_shape):
        self.calls = self.add_weight(shape=(), dtype="int32", trainable=False)

    def call(self, inputs):
        self.calls.assign(self.calls + 1)
        return inputs


def test_what_layers_remember_of_calls_is_dropped():
    layers = [keras.Input((3,)), Remembering(), keras.layers.Dense(2, name="dense")]
    model = keras.Sequential(layers)
    x = np.ones((2, 3), "float32")
    before = models.snapshot(model)
    received(model, x, x)
    models.assert_unchanged(model, before)


def test_ids_that_a_graph_would_cut_off_are_refused():
    model = models.siamese()
    left, right = models.inputs_of(model)
    received(model, [left.astype("float32"), right])
    for batch in ([left, right + 0.5], {"left": left, "right": right + 0.5}):
        with pytest.raises(ValueError, match="'right' takes integers. .* float64"):
            received(model, batch)


@pytest.mark.parametrize("where", ["observer", "model"])
def test_after_an_error_nothing_of_it_is_left(where):
    model = models.sequential()
    before = models.snapshot(model)

    def fail(inputs):
        raise RuntimeError("on purpose")

    observers = {model.get_layer("second"): fail if where == "observer" else id}
    batch = models.inputs_of(model)[:, : 40 if where == "observer" else 39]
    with (
        pytest.raises((RuntimeError, ValueError)),
        observe_layers(model, observers) as run,
    ):
        run(batch)
    assert "call" not in vars(model.get_layer("second"))
    models.assert_unchanged(model, before)


def test_a_call_that_was_set_on_a_layer_is_set_again():
    model = models.sequential()
    layer = model.get_layer("second")
    own = layer.call
    object.__setattr__(layer, "call", own)
    received(model, models.inputs_of(model))
    assert vars(layer)["call"] is own


@pytest.mark.parametrize("make", [*models.ALL, models.tied])
def test_layers_answer_for_others_as_if_they_stood_there(make):
    model = make()
    before, inputs = models.snapshot(model), models.inputs_of(model)
    new = {
        place.layer: compress_layer(place.layer, RoundingConfig(3)).layer
        for place in places(model)
    }
    with substitute_layers(model, new), observe_layers(model, {}) as run:
        found = array(run(inputs))
    expected = models.outputs_of(replace_layers(model, new))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(found, models.outputs_of(model))
    models.assert_unchanged(model, before)
    assert not any(vars(place.layer).get("call") for place in places(model))
