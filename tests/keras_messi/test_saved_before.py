"""Files that an earlier version saved still load, and compute the same.

They were made at commit 2d2d813, before layers and modules had their present places.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_messi import load_model

FOLDER = Path(__file__).parent / "saved_before"


@keras.saving.register_keras_serializable("fixtures")
class Block(keras.Model):
    """A class of its own, in which layers were swapped before it was saved."""

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


@pytest.mark.parametrize("name", ["float", "int8", "int4", "altered"])
def test_a_file_of_an_earlier_version_computes_what_it_computed(name):
    stored = np.load(FOLDER / "expected.npz")
    model = load_model(FOLDER / f"{name}.keras")
    inputs = stored["rows" if name == "altered" else "ids"]
    outputs = keras.ops.convert_to_numpy(model(inputs))
    np.testing.assert_allclose(outputs, stored[f"outputs_of_{name}"], atol=2e-5)
