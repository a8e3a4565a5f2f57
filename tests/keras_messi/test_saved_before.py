"""Files that commit 2d2d813 wrote, before layers were composed of storages."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

import keras_messi

FOLDER = Path(__file__).parent / "saved_before"
# On TensorFlow, which wrote them, outputs are the same but for the order of sums, which
# a processor without AVX-512 has otherwise.
TOLERANCE = 2e-5 if keras.backend.backend() == "tensorflow" else 1e-4


@pytest.fixture(params=["float", "int8", "int4"])
def name(request):
    return request.param


def check(model, name):
    expected = dict(np.load(FOLDER / f"{name}.npz"))
    outputs, logits = model(expected.pop("tokens"))
    found = {"outputs": outputs, "logits": logits}
    for key in set(expected) - set(found):
        layer, attribute = key.split(".")
        found[key] = getattr(model.get_layer(layer), attribute)
    for key, value in expected.items():
        got = ops.convert_to_numpy(found[key])
        size = np.abs(value).max()
        assert_allclose(got, value, rtol=TOLERANCE, atol=TOLERANCE * size, err_msg=key)


def test_a_keras_file_computes_what_it_did(name):
    check(keras_messi.load_model(FOLDER / f"{name}.keras"), name)


def test_weights_load_into_a_new_model(name):
    old = keras_messi.load_model(FOLDER / f"{name}.keras")
    model = keras.Model.from_config(old.get_config())
    model.load_weights(FOLDER / f"{name}.weights.h5")
    check(model, name)


def test_configs_and_weights_are_named_as_they_were(name):
    model = keras_messi.load_model(FOLDER / f"{name}.keras")
    expected = json.loads((FOLDER / "described.json").read_text())[name]
    assert describe(model) == expected


def describe(model):
    """Config, and names, shapes, types and trainability of weights, of each layer."""
    return {
        layer.name: {
            "config": json.loads(json.dumps(layer.get_config())),
            "weights": [
                [w.path, list(w.shape), str(w.dtype), w.trainable]
                for w in layer.weights
            ],
        }
        for layer in model.layers
        if layer.weights
    }


@keras.saving.register_keras_serializable("fixtures")
class Block(keras.Model):
    """A class with a config of its own, whose layers were swapped before saving."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(24, activation="relu")
        self.second = keras.layers.Dense(8)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build((*input_shape[:-1], 24))
        self.built = True

    def call(self, inputs):
        return self.second(self.first(inputs))

    def get_config(self):
        return {"name": self.name}


def test_a_model_with_swapped_layers_computes_what_it_did():
    stored = np.load(FOLDER / "altered.npz")
    model = keras_messi.load_model(FOLDER / "altered.keras")
    outputs = ops.convert_to_numpy(model(stored["rows"]))
    assert_allclose(outputs, stored["outputs"], rtol=TOLERANCE, atol=10 * TOLERANCE)
