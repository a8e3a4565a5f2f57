"""Copy models of any class, as Keras does when it saves and loads them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isfunction
from typing import Any

import keras

from keras_messi.models.keras._keras_internals import (
    building_the_rest,
    copy_trainable,
    in_memory,
    own_variables,
    without_training_state,
)
from keras_messi.models.keras.altered import (
    all_layers,
    all_paths,
    build_configs,
    build_rest,
    class_of,
)


def copy_model(model: keras.Model) -> keras.Model:
    """A model of the same class with weights of its own, not compiled.

    Raises:
        ValueError: The model can't be built again from its config; the message names
            the layer and says what it lacks.
    """
    with in_memory(), building_the_rest(), without_training_state(model):
        copy = _from_config(model)
        build_rest(copy, build_configs(model))
    _check_alike(model, copy)
    for layer, twin in zip(all_layers(model), all_layers(copy), strict=True):
        _copy_state(layer, twin)
    return copy


def _from_config(model: keras.Model) -> keras.Model:
    with _named_functions(model) as functions:
        known: dict[str, Any] = {**_own_classes(model), **functions}
        try:
            config = keras.saving.serialize_keras_object(model)
            return keras.saving.deserialize_keras_object(config, custom_objects=known)
        except (NotImplementedError, TypeError, ValueError) as error:
            culprit = _culprit(model, known)
            reason = str(error).splitlines()[-1]  # Keras puts the whole config before
            raise ValueError(
                f"Layer '{culprit.name}' of class {type(culprit).__name__} can't be "
                f"copied: its from_config(get_config()) failed with: {reason} Give the "
                "class a get_config() that returns what its __init__() takes."
            ) from error


@contextmanager
def _named_functions(model: keras.Model) -> Iterator[dict[str, Any]]:
    """Functions that layers hold, under names of their own, so that copies hold them.

    Rebuilt from its code, as a Lambda layer is saved, a function would lack what it
    refers to in its module.
    """
    values = [x for layer in all_layers(model) for x in vars(layer).values()]
    own = {id(x): x for x in values if isfunction(x) and not _is_of_keras(x)}
    functions = {f"function_{i}": x for i, x in enumerate(own.values())}
    names = {name: function.__name__ for name, function in functions.items()}
    for name, function in functions.items():
        function.__name__ = name
    try:
        yield functions
    finally:
        for name, function in functions.items():
            function.__name__ = names[name]


def _is_of_keras(thing: Any) -> bool:
    return str(thing.__module__).split(".")[0] == "keras"


def _own_classes(model: keras.Model) -> dict[str, type]:
    """Classes of the user that need not be registered as long as they are at hand."""
    classes = {class_of(layer) for layer in all_layers(model)}
    return {
        keras.saving.get_registered_name(cls): cls
        for cls in classes
        if not _is_of_keras(cls)
    }


def _culprit(model: keras.Model, known: dict[str, Any]) -> keras.Layer:
    """The innermost layer that can't be built again, or else the model."""
    for layer in reversed(all_layers(model)):
        try:
            config: Any = keras.saving.serialize_keras_object(layer)
            keras.saving.deserialize_keras_object(config, custom_objects=known)
        except (NotImplementedError, TypeError, ValueError):
            return layer
    return model


def _check_alike(model: keras.Model, copy: keras.Model) -> None:
    """Raise ValueError unless a copy has the layers and weights of a model."""
    for (path, layer), (_, twin) in zip(_listed(model), _listed(copy), strict=False):
        if _outline(layer) != _outline(twin):
            raise ValueError(
                f"Model '{model.name}' of class {type(model).__name__} can't be "
                f"copied: built again from its config, its layer '{path}' is "
                f"{_outline(twin)} instead of {_outline(layer)}. Give the class a "
                "build() that makes the weights and builds the layers inside."
            )
    alike = len(_listed(model)) == len(_listed(copy))
    if not alike or _sharing(model) != _sharing(copy):
        raise ValueError(
            f"Model '{model.name}' can't be copied: built again from its config, it "
            "has other layers or shares other weights between them. All layers must "
            "be made in __init__() or build() from what is in the config."
        )


def _listed(model: keras.Model) -> list[tuple[str, keras.Layer]]:
    return [(model.name, model), *all_paths(model).items()]


def _outline(layer: keras.Layer) -> tuple[str, list[tuple[int, ...]]]:
    shapes = [tuple(variable.shape) for variable in own_variables(layer)]
    return type(layer).__name__, shapes


def _sharing(model: keras.Model) -> list[int]:
    """For each variable of each layer, the first place where it stands."""
    variables = [v for layer in all_layers(model) for v in own_variables(layer)]
    first: dict[int, int] = {}
    return [first.setdefault(id(v), i) for i, v in enumerate(variables)]


def _copy_state(layer: keras.Layer, copy: keras.Layer) -> None:
    """Copy weights, seeds and assets, such as the vocabulary of a StringLookup."""
    for source, target in zip(own_variables(layer), own_variables(copy), strict=True):
        # Through numpy: two JAX variables must not hold one array, which training the
        # one would take away from the other.
        target.assign(keras.ops.convert_to_numpy(source))
    copy_trainable(layer, copy)
    if hasattr(layer, "save_assets") and hasattr(copy, "load_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)
