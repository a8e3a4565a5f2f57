"""Random inputs, on which any model can be run."""

from typing import Any

import keras
import numpy as np

from keras_messi.models.keras._keras_internals import input_tensors
from keras_messi.models.keras.altered import all_layers

# Of a dimension that the model takes in any size, such as positions.
LENGTH = 16


def random_inputs(model: keras.Model, num_inputs: int) -> Any:
    """Normal numbers, and uniform ids that every table of the model has.

    Args:
        model: A built model of any class.
        num_inputs: Size of the batch.
    """
    tables = [x for x in all_layers(model) if isinstance(x, keras.layers.Embedding)]
    vocabulary = min((table.input_dim for table in tables), default=2)
    rng = np.random.default_rng(0)

    def draw(tensor: keras.KerasTensor) -> np.ndarray:
        shape = num_inputs, *(LENGTH if n is None else n for n in tensor.shape[1:])
        if "int" in tensor.dtype:
            return rng.integers(vocabulary, size=shape).astype(tensor.dtype)
        return rng.normal(size=shape).astype("float32")

    dtype = "int32" if tables else "float32"
    return keras.tree.map_structure(draw, input_tensors(model, dtype))
