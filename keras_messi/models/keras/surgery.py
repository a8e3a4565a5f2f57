"""Find layers in a model, and copy a model with some of its layers replaced."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras

from keras_messi._keras_internals import own_weights
from keras_messi.layers.unfolded.base import (
    layer_in_model,
    show,
    with_unfolded,
)
from keras_messi.layers.unfolded.table import is_unfoldable, unfold
from keras_messi.models.keras._keras_internals import (
    direct_layers,
    is_plain_graph,
    last_layers,
    trace,
)
from keras_messi.models.keras.altered import (
    all_layers,
    all_paths,
    exchange_in,
    remember_layers,
)
from keras_messi.models.keras.copying import copy_model

Filters = str | Iterable[str] | Callable[[keras.Layer], bool] | None


class NamedLayer(NamedTuple):
    """A layer, and where it stands in a model.

    A layer of another kind than Dense or Embedding that can be unfolded is shown by
    the Dense layers that stand for it.
    """

    path: str
    layer: keras.Layer
    # Why the layer can't be replaced, if there is such a reason.
    obstacle: str | None = None
    # Whether its outputs are known to be those of the model, as in a classifier's head.
    is_last: bool = False
    # Whether the layer is a table of a vocabulary in the order of frequency.
    is_vocabulary: bool = False

    @property
    def layer_type(self) -> str:
        """Name of the class of the layer in the model."""
        return type(layer_in_model(self.layer)).__name__


class LayersRefused(ValueError):
    """Some layers can't be replaced, each for a reason; the others may be."""

    def __init__(self, reasons: Mapping[keras.Layer, str]) -> None:
        super().__init__(", ".join(f"{x.name}: {why}" for x, why in reasons.items()))
        self.reasons = reasons


def find_layers(model: keras.Model) -> list[NamedLayer]:
    """List all layers of a model that are no models themselves, each once.

    What can be unfolded, such as an EinsumDense, is shown by the Dense layers of its
    unfolding, at its path, and with their names if there are several.

    The path of a layer joins, by "/", the names of what holds it and its own. A layer
    of a Sequential or Functional model goes by its name, any other by the attribute
    that holds it, with index or key in lists and dicts: "encoder/blocks/0/dense".
    Keras's own `layer.path` is not unique.

    Args:
        model: A built model.

    Raises:
        ValueError: The model is no keras.Model, or is not built.
    """
    _check_built(model)
    holders, kept = _holders_of_variables(model), _kept_inside(model)
    last = last_layers(model)
    paths = all_paths(model)
    inside = {
        id(x)
        for one in paths.values()
        if is_unfoldable(one)
        for x in all_layers(one)[1:]
    }
    return [
        NamedLayer(
            own_path, own, kept.get(id(layer)) or _tie(layer, holders), layer in last
        )
        for path, layer in paths.items()
        if not isinstance(layer, keras.Model) and id(layer) not in inside
        for own_path, own in _unfolded(path, layer)
    ]


def _unfolded(path: str, layer: keras.Layer) -> Iterator[tuple[str, keras.Layer]]:
    """The layers by path that stand for one of a model: mostly itself."""
    unfolded = unfold(layer)
    if unfolded is None:
        yield path, layer
        return
    dense_layers = show(layer, unfolded)
    for name, dense in dense_layers.items():
        yield (path if len(dense_layers) == 1 else f"{path}/{name}"), dense


def _check_built(model: keras.Model) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {type(model)}")
    if not model.built:
        raise ValueError(
            f"`model` must be built, so that it has weights. Received: '{model.name}', "
            "not built. Call it on some data, or start it with keras.Input."
        )


def _holders_of_variables(model: keras.Model) -> dict[int, list[keras.Layer]]:
    holders: dict[int, list[keras.Layer]] = {}
    for layer in all_layers(model):
        for variable in own_weights(layer):
            holders.setdefault(id(variable), []).append(layer)
    return holders


def _tie(layer: keras.Layer, holders: dict[int, list[keras.Layer]]) -> str | None:
    """Why a layer can't be replaced if it shares a weight with another one."""
    for variable in own_weights(layer):
        others = [x for x in holders[id(variable)] if x is not layer]
        if others:
            return f"its {variable.name} is also held by '{others[0].name}'"
    return None


def _kept_inside(model: keras.Model) -> dict[int, str]:
    """Why layers can't be replaced that another one keeps for itself, by their id.

    Such a one says why in an attribute `keeps_layers`.
    """
    return {
        id(inner): f"{layer.keeps_layers} (it is inside a {type(layer).__name__})"
        for layer in all_layers(model)
        if hasattr(layer, "keeps_layers")
        for inner in direct_layers(layer)
    }


def matches(place: NamedLayer, filters: Filters) -> bool:
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
        return bool(filters(layer_in_model(place.layer)))
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

    The copy is made as Keras loads a saved model: from its config, built, with its
    weights. So it has the class of the model, shared layers stay shared, nested
    models stay nested, and what is frozen stays frozen. Each new layer
    takes the place of the old one in everything that holds that: graphs, attributes,
    lists and dicts.

    If the model was compiled, so is the copy, with a fresh optimizer, unless its class
    has a `compile()` of its own.

    Args:
        model: A built model. It is left as it is.
        replacements: The new layer for each layer of `find_layers` to be replaced,
            built, with weights of its own.

    Returns:
        A new model that shares no weight with `model`.

    Raises:
        ValueError: The model is not built, or can't be copied; the message names the
            layer and says what it lacks.
        LayersRefused: A layer does what a new one can't: what holds it reads weights
            or attributes of it that the new one does not have.
    """
    _check_built(model)
    new_layers = with_unfolded(replacements)
    copy = copy_model(model)
    twins = dict(zip(map(id, all_layers(model)), all_layers(copy), strict=True))
    pairs = [(twins[id(old)], new) for old, new in new_layers.items()]
    try:
        _put_and_try(copy, pairs)
    except LayersRefused as error:
        whole = {old: error.reasons.get(new) for old, new in new_layers.items()}
        reasons = {old: whole[layer_in_model(old)] for old in replacements}
        raise LayersRefused(
            {old: reason for old, reason in reasons.items() if reason is not None}
        ) from error
    remember_layers(copy, [new for _, new in pairs])
    if pairs:
        copy_model(copy)  # which fails if a saved one could not be loaded
    _compile_as(copy, model)
    return copy


Pairs = list[tuple[keras.Layer, keras.Layer]]


def _put_and_try(model: keras.Model, pairs: Pairs) -> None:
    """Put new layers into a model, or take all out again and say which ones fail."""
    dtype = _traceable_dtype(model) if _are_held_by_code(model, pairs) else None
    if _failure(model, pairs, dtype) is None:
        return
    reasons = {}
    for old, new in pairs:
        reason = _failure(model, [(old, new)], dtype)
        if reason is None:
            _take_out(model, [(old, new)])
        else:
            reasons[new] = reason
    raise LayersRefused(reasons)


def _are_held_by_code(model: keras.Model, pairs: Pairs) -> bool:
    """Whether code of its own, and not only a graph, calls one of the old layers."""
    old = {id(layer) for layer, _ in pairs}
    return any(
        not is_plain_graph(layer) and any(id(x) in old for x in direct_layers(layer))
        for layer in all_layers(model)
    )


def _traceable_dtype(model: keras.Model) -> str | None:
    """A dtype of inputs for which a model can be traced, if it can be."""
    for dtype in (keras.config.floatx(), "int32"):
        if _error_of_trace(model, dtype) is None:
            return dtype
    return None


def _failure(model: keras.Model, pairs: Pairs, dtype: str | None) -> str | None:
    """Put new layers into a model; if it then fails, take them out and say how."""
    exchange_in(model, pairs)
    for old, _ in pairs:
        object.__setattr__(old, "call", _call_of_replaced)
    error = _error_of_trace(model, dtype) if dtype else None
    if error is not None:
        _take_out(model, pairs)
    return error


def _take_out(model: keras.Model, pairs: Pairs) -> None:
    exchange_in(model, [(new, old) for old, new in pairs])
    for old, _ in pairs:
        object.__delattr__(old, "call")


def _call_of_replaced(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("A layer that was replaced is still held and called somewhere.")


def _error_of_trace(model: keras.Model, dtype: str) -> str | None:
    """What a model raises when it is called, in one line."""
    try:
        trace(model, dtype)
    except Exception as error:  # the code of any model may raise anything
        return in_one_line(error)
    return None


def in_one_line(error: Exception) -> str:
    """The class of an error that a model raised, and what it says."""
    # Keras puts the layer before the message, and colours and arguments around it.
    paragraphs = re.sub(r"\x1b\[\d*m", "", str(error)).split("\n\n")
    return " ".join([f"{type(error).__name__}:", *paragraphs[:2]])


def _compile_as(copy: keras.Model, model: keras.Model) -> None:
    copy.compiled = False  # some classes compile themselves when they are made
    if model.compiled and type(model).compile is keras.Model.compile:
        copy.compile_from_config(model.get_compile_config())
