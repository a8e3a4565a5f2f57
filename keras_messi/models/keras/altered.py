"""Models with swapped layers, whose configs serialize the new ones.

A class that makes its layers itself makes the old ones again when it is loaded. So a
layer or model in which layers were replaced gets a class derived from its own, whose
config holds the original config and the new layers. It is built and saved, loaded,
pickled or used in another model as ever.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any

import keras

from keras_messi.models.keras._keras_internals import (
    attributes,
    building_the_rest,
    direct_layers,
    exchange_layers,
    is_graph,
    is_plain_graph,
)

_SWAPPED = "_swapped"  # attribute of an altered layer: the new layers in it


# Whether to treat a layer, given its index, as a leaf.
IsWhole = Callable[[int, keras.Layer], bool]


def _never(index: int, layer: keras.Layer) -> bool:
    return False


def all_layers(root: keras.Layer, is_whole: IsWhole = _never) -> list[keras.Layer]:
    """A layer or model and all inside it, each once.

    The order is the same for all that is built from one config.
    """
    return [root, *(layer for _, layer in _walk(root, is_whole))]


def all_paths(root: keras.Layer) -> dict[str, keras.Layer]:
    """Paths of the layers inside a layer or model, each once, as in `all_layers`.

    A layer of a graph goes by its name, any other by the attribute that holds it.
    """
    found: dict[str, keras.Layer] = {}
    prefixes, names = {id(root): ""}, {id(root): _names(root)}
    for holder, layer in _walk(root):
        name = names[id(holder)].get(id(layer), layer.name)
        path = _unique(prefixes[id(holder)] + name, found)
        found[path] = layer
        prefixes[id(layer)], names[id(layer)] = path + "/", _names(layer)
    return found


def _walk(
    root: keras.Layer, is_whole: IsWhole = _never
) -> Iterator[tuple[keras.Layer, keras.Layer]]:
    """Each layer inside a layer or model once, after the one that holds it first."""
    seen = {id(root)}

    def visit(holder: keras.Layer) -> Iterator[tuple[keras.Layer, keras.Layer]]:
        for layer in direct_layers(holder):
            if id(layer) not in seen:
                index = len(seen)
                seen.add(id(layer))
                yield holder, layer
                if not is_whole(index, layer):
                    yield from visit(layer)

    return visit(root)


def _names(layer: keras.Layer) -> dict[int, str]:
    """Names of the layers in attributes, such as "blocks/0" for `self.blocks[0]`."""
    names = {id(x): x.name for x in layer.layers} if is_graph(layer) else {}
    for attribute, value in attributes(layer).items():
        if attribute != _SWAPPED:
            for name, inner in _layers_in(value, attribute.lstrip("_")):
                names.setdefault(id(inner), name)
    return names


def _layers_in(value: Any, name: str) -> Iterator[tuple[str, keras.Layer]]:
    if isinstance(value, keras.Layer):
        yield name, value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _layers_in(entry, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            yield from _layers_in(entry, f"{name}/{i}")


def _unique(path: str, taken: dict[str, keras.Layer]) -> str:
    candidates = (path if n == 1 else f"{path}_{n}" for n in count(1))
    return next(candidate for candidate in candidates if candidate not in taken)


def build_configs(root: keras.Layer, is_whole: IsWhole = _never) -> dict[str, Any]:
    """Build configs of a layer or model and all inside it, by index."""
    configs = (layer.get_build_config() for layer in all_layers(root, is_whole))
    return {str(index): config for index, config in enumerate(configs) if config}


def build_rest(
    root: keras.Layer, configs: dict[str, Any], is_whole: IsWhole = _never
) -> None:
    """Build the layers that the layer or model around them did not build.

    Keras builds a model by calling it, which it can't if that takes several inputs.
    """
    index, layers = 0, all_layers(root, is_whole)
    while index < len(layers):
        if not layers[index].built and str(index) in configs:
            layers[index].build_from_config(configs[str(index)])
            layers = all_layers(root, is_whole)  # it may have made some
        index += 1


def exchange_in(
    root: keras.Layer, pairs: list[tuple[keras.Layer, keras.Layer]]
) -> None:
    """Exchange layers anywhere inside a layer or model, in place.

    Args:
        root: The layer or model.
        pairs: Old and new layers. The other way round they undo the exchange.
    """
    exchange_layers(all_layers(root), pairs)


def remember_layers(root: keras.Layer, new_layers: list[keras.Layer]) -> None:
    """Let all that holds new layers, and would make old ones, save the new ones."""
    new = {id(layer) for layer in new_layers}
    for layer in all_layers(root):
        inside = [x for x in all_layers(layer)[1:] if id(x) in new]
        if inside and not is_plain_graph(layer):
            known = vars(layer).get(_SWAPPED, ())
            object.__setattr__(layer, _SWAPPED, (*known, *inside))
            original: Any = type(layer)
            if not issubclass(original, Altered):
                object.__setattr__(layer, "__class__", _altered(original))


@keras.saving.register_keras_serializable(package="keras_messi")
class Altered:
    """Mixin of the class of a layer in which other layers were swapped."""

    _swapped: tuple[keras.Layer, ...]

    def get_config(self) -> dict[str, Any]:
        """The original config, shapes and new layers by index in `all_layers`.

        Layers inside old and new ones may differ and are not counted.
        """
        swapped = {id(layer) for layer in self._swapped}

        def is_whole(index: int, layer: keras.Layer) -> bool:
            return id(layer) in swapped

        new = {
            str(index): keras.saving.serialize_keras_object(layer)
            for index, layer in enumerate(all_layers(self, is_whole))
            if id(layer) in swapped
        }
        with _original_class(self):
            original = keras.saving.serialize_keras_object(self)
        original.pop("compile_config", None)
        built = build_configs(self, is_whole)
        return {"original": original, "built": built, "new": new}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> keras.Layer:
        """Make the original, and put the new layers into it."""

        def is_whole(index: int, layer: keras.Layer) -> bool:
            return str(index) in config["new"]

        with building_the_rest():
            original = keras.saving.deserialize_keras_object(config["original"])
            build_rest(original, config["built"], is_whole)
        layers = all_layers(original, is_whole)
        pairs = [
            (layers[int(index)], keras.saving.deserialize_keras_object(new))
            for index, new in config["new"].items()
        ]
        exchange_in(original, [(old, new) for old, new in pairs if not _same(old, new)])
        # A layer that the original made anew itself stays: others may share it.
        kept = [old if _same(old, new) else new for old, new in pairs]
        remember_layers(original, kept)
        return original

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as Keras does, by the class that can be imported."""
        reduced: Any = super().__reduce__()
        load, *rest = reduced
        return getattr(class_of(self), load.__name__), *rest


def _same(layer: keras.Layer, other: keras.Layer) -> bool:
    return type(layer) is type(other) and layer.get_config() == other.get_config()


def class_of(layer: Any) -> type:
    """The class of a layer, the original one if the layer was altered."""
    cls = type(layer)
    return cls.__bases__[1] if issubclass(cls, Altered) else cls


@contextmanager
def _original_class(layer: Altered) -> Iterator[None]:
    """Give a layer its original class back for a while.

    Keras makes configs up from the name of the class and the arguments of its
    `__init__`, and asks whether the class has a `get_config` of its own.
    """
    altered = type(layer)
    object.__setattr__(layer, "__class__", class_of(layer))
    try:
        yield
    finally:
        object.__setattr__(layer, "__class__", altered)


@cache
def _altered(original: type) -> type:
    """The altered class of a class, under its name; all load through one name."""
    members: dict[str, Any] = {"__module__": __name__, "__doc__": original.__doc__}
    if hasattr(original, "save_to_preset"):
        members["save_to_preset"] = _refuse_preset
    altered = type(original.__name__, (Altered, original), members)
    register = keras.saving.register_keras_serializable("keras_messi", "Altered")
    return register(altered)


def _refuse_preset(self: keras.Layer, *args: Any, **kwargs: Any) -> None:
    raise NotImplementedError(
        f"'{self.name}' holds compressed layers, which presets can't: they are read "
        "by class, without the swapped layers. Save it by "
        "keras_messi.save_model(model, 'model.keras') instead."
    )
