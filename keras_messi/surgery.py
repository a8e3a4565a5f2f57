"""Find layers in a model, and copy a model with some of its layers replaced."""

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras

from keras_messi._keras_internals import (
    graph_layers,
    inner_layers,
    is_graph,
    trusting_own_code,
)

Filters = str | Iterable[str] | Callable[[keras.Layer], bool] | None


class Place(NamedTuple):
    """A layer, and where it stands in a model."""

    path: str
    layer: keras.Layer
    # Why the layer can't be replaced, if there is such a reason.
    obstacle: str | None = None


class LayersRefused(ValueError):
    """Some layers can't be replaced, each for a reason; the others may be."""

    def __init__(self, reasons: Mapping[keras.Layer, str]) -> None:
        super().__init__(", ".join(f"{x.name}: {why}" for x, why in reasons.items()))
        self.reasons = reasons


class Surgery(NamedTuple):
    """How models of one family are opened, changed and measured.

    Attributes:
        find_layers: All places of a model, each layer once.
        replace_layers: A copy of a model with a new layer for each of some layers
            found; the model is left as it is. Raises `LayersRefused` if some of them
            can't be replaced.
        count_parameters: Numbers in the weights of a model, integers aside.
        stored_bytes: Bytes of all weights of a model as stored on disk.
        saved_size: Bytes of the file or files that a model is saved in.
    """

    find_layers: Callable[[Any], list[Place]]
    replace_layers: Callable[[Any, Mapping[keras.Layer, keras.Layer]], Any]
    count_parameters: Callable[[Any], int]
    stored_bytes: Callable[[Any], int]
    saved_size: Callable[[Any], int]


def find_layers(model: keras.Model) -> list[Place]:
    """List all layers of a model that are no models themselves, each once.

    The path of a layer is the names of the models and layers around it and its own,
    joined by "/". Keras's own `layer.path` is not unique once models are nested.

    Args:
        model: A built Sequential or Functional model.

    Raises:
        ValueError: The model is not built, or is neither Sequential nor Functional.
    """
    check_replaceable(model)
    places = {id(place.layer): place for place in reversed(list(_walk(model, "")))}
    return list(reversed(places.values()))


def _walk(model: keras.Model, prefix: str) -> Iterator[Place]:
    for layer in graph_layers(model):
        path = prefix + layer.name
        if is_graph(layer):
            yield from _walk(layer, path + "/")
            continue
        yield Place(path, layer)
        for inner in inner_layers(layer):
            around = f"inside a layer of class {type(layer).__name__}"
            yield Place(f"{path}/{inner.name}", inner, around)


def check_replaceable(model: keras.Model) -> None:
    """Raise ValueError unless layers of the model can be replaced."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {type(model)}")
    if not is_graph(model):
        raise ValueError(
            f"`model` must be a Sequential or Functional model, whose graph can be "
            f"rebuilt. Received the subclassed model '{model.name}' of class "
            f"{type(model).__name__}: rebuild it with the functional API, as "
            "keras.Model(inputs, outputs), or compress the models inside it one by one."
        )
    if not model.built:
        raise ValueError(
            f"`model` must be built, so that it has weights. Received: '{model.name}', "
            "not built. Call it on some data, or start it with keras.Input."
        )


def matches(place: Place, filters: Filters) -> bool:
    """Whether filters select a layer.

    Args:
        place: Where the layer stands.
        filters: A regular expression searched for in the path, a list of them of which
            one must be found, a function of the layer, or None for all layers.

    Raises:
        ValueError: The filters are not regular expressions.
    """
    if filters is None:
        return True
    if callable(filters):
        return bool(filters(place.layer))
    patterns = [filters] if isinstance(filters, str) else filters
    try:
        return any(re.search(pattern, place.path) for pattern in patterns)
    except (re.error, TypeError) as error:
        raise ValueError(
            f"`filters` must be regular expressions or a function ({error}). "
            f"Received: filters={filters!r}"
        ) from error


def replace_layers(
    model: keras.Model, replacements: Mapping[keras.Layer, keras.Layer]
) -> keras.Model:
    """Copy a model with some of its layers replaced.

    Shared layers stay shared, nested models stay nested, and names stay. A compiled
    model gives a compiled copy with a fresh optimizer.

    Args:
        model: A built Sequential or Functional model. It is left as it is.
        replacements: The new layer for each layer to be replaced. All other layers are
            copied with their weights.

    Returns:
        A new model that shares no weight with `model`.
    """
    check_replaceable(model)
    copies: list[tuple[keras.Layer, keras.Layer]] = []

    def clone(layer: keras.Layer) -> keras.Layer:
        if layer in replacements:
            return replacements[layer]
        copy = _copy_config(layer)
        if isinstance(layer, keras.Layer):  # and not an operation without state
            copies.append((layer, copy))
        return copy

    new = keras.models.clone_model(model, clone_function=clone, recursive=True)
    for layer, copy in copies:
        _copy_state(layer, copy)
    return new


def _copy_config(layer: keras.Layer) -> keras.Layer:
    try:
        with trusting_own_code():
            return type(layer).from_config(layer.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"Layer '{layer.name}' of class {type(layer).__name__} can't be copied: "
            f"its from_config(get_config()) failed with: {error}. Give the class a "
            "get_config() with all arguments of its __init__()."
        ) from error


def _copy_state(layer: keras.Layer, copy: keras.Layer) -> None:
    """Copy weights, seeds and assets, such as the vocabulary of a StringLookup."""
    for source, target in zip(layer.variables, copy.variables, strict=True):
        # Through numpy: two JAX variables must not hold one array, which training the
        # one would take away from the other.
        target.assign(keras.ops.convert_to_numpy(source))
    for source, target in zip(
        [layer, *inner_layers(layer)], [copy, *inner_layers(copy)], strict=True
    ):
        if hasattr(source, "save_assets") and hasattr(source, "load_assets"):
            with tempfile.TemporaryDirectory() as folder:
                source.save_assets(folder)
                target.load_assets(folder)
