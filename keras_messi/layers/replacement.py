"""New layers with the config and weights of old ones."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_messi.layers.kinds import matrix_name, matrix_shape, plain_type
from keras_messi.layers.stored_matrix import StoredMatrix

_CARRIED = ("name", "trainable", "dtype")
_CARRIED_EMBEDDING = (*_CARRIED, "input_dim", "output_dim", "mask_zero")
_CARRIED_BY_KIND: dict[type, tuple[str, ...]] = {
    keras.layers.Dense: (
        *_CARRIED,
        "units",
        "activation",
        "use_bias",
        "bias_initializer",
        "bias_regularizer",
        "bias_constraint",
        "activity_regularizer",
    ),
    keras.layers.Embedding: _CARRIED_EMBEDDING,
    keras.layers.ReversibleEmbedding: (
        *_CARRIED_EMBEDDING,
        "reverse_dtype",
        "logit_soft_cap",
    ),
}


def replacement(
    layer: keras.Layer,
    classes: Mapping[type, type],
    regularizer: str | None,
    arguments: Mapping[str, Any],
    stored: Mapping[str, Any],
) -> keras.Layer:
    """A layer of another class with all that an old one has beside its matrix.

    Args:
        layer: A Dense or Embedding layer.
        classes: Class of the new layer, by the class of the old one.
        regularizer: Argument of the new class that takes the regularizer of the matrix;
            None if the new matrix is not trained.
        arguments: What the new class takes beside what both have.
        stored: What the new layer loads in the place of the matrix.
    """
    old, store = layer.get_config(), dict(stored)
    carried = {key: old.get(key) for key in _CARRIED_BY_KIND[plain_type(layer)]}
    if regularizer is not None:
        carried[regularizer] = old[f"{matrix_name(layer)}_regularizer"]
    new = classes[plain_type(layer)](**arguments, **carried)
    new.build((None, matrix_shape(layer)[0]))
    if getattr(layer, "bias", None) is not None:
        store["bias"] = keras.ops.convert_to_numpy(layer.bias)
    new.load_own_variables(store)
    return new


def copy_layer(layer: keras.Layer, **changes: Any) -> keras.Layer:
    """A layer with weights of its own, with some changes of the config."""
    copy = type(layer).from_config({**layer.get_config(), **changes})
    copy.build_from_config(layer.get_build_config())
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    copy.load_own_variables(
        {name: keras.ops.convert_to_numpy(value) for name, value in store.items()}
    )
    return copy


def can_merge_lora(layer: keras.Layer) -> bool:
    """Whether a layer has LoRA weights, and factors that can hold them exactly."""
    return isinstance(layer, StoredMatrix) and layer.can_merge_lora


def with_merged_lora(layer: keras.Layer) -> keras.Layer:
    """A copy of such a layer without LoRA, which computes the same."""
    copy = copy_layer(layer)
    copy.merge_lora()
    return copy
