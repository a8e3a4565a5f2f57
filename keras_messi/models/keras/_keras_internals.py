"""What copies of models need of private Keras."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
from keras.src import backend
from keras.src.export.export_utils import get_input_signature
from keras.src.models.functional import Functional
from keras.src.ops.function import map_graph
from keras.src.saving.serialization_lib import ObjectSharingScope, SafeModeScope
from keras.src.utils.tracking import DotNotTrackScope

from keras_messi._keras_internals import own_weights
from keras_messi.layers.kinds import matrix_name

# Attributes of a compiled model that Keras saves beside its layers.
_TRAINING_STATE = ("optimizer", "_loss_tracker", "_compile_metrics", "_compile_loss")

# Attributes in which Keras and TensorFlow keep books; no user named anything in them.
_BOOKS = {"_layers", "_functional", "_operations", "_operations_by_depth", "_modules"}


def is_graph(layer: keras.Layer) -> bool:
    """Whether the layer is a Sequential or Functional model, or of a subclass."""
    return isinstance(layer, keras.Sequential | Functional)


def input_signature_of(model: keras.Model) -> Any:
    """Shapes and dtypes that a model is exported with, of one that was called."""
    return get_input_signature(model)


def archive_of_calls() -> Any:
    """An archive to be exported, with the variables that its endpoints read.

    Keras lists those of a tracked model as well, as objects of its own, and TensorFlow
    then writes each variable twice.
    """
    archive = keras.export.ExportArchive()
    archive._backend_track_layer = lambda layer: None
    return archive


def is_plain_graph(layer: keras.Layer) -> bool:
    """Whether the layer is a Sequential or Functional model and of no subclass."""
    return type(layer) in (keras.Sequential, Functional)


def _functional_in(layer: keras.Layer) -> keras.Model | None:
    """The Functional model that a Sequential one, once built, keeps inside."""
    return getattr(layer, "_functional", None)


def direct_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Layers that a layer or model holds itself, each once, those of its graph first.

    What was hung on a plain Sequential or Functional model later is no part of it:
    Keras does not load it again either.
    """
    in_graph = layer.layers if is_graph(layer) else []
    held = [] if is_plain_graph(layer) else layer._layers
    inner = _functional_in(layer)
    return list({id(x): x for x in [*in_graph, *held] if x is not inner}.values())


class Call(NamedTuple):
    """One use of a layer in a graph."""

    layer: keras.Layer
    inputs: list[Any]
    outputs: list[Any]


def graph_calls(model: keras.Model) -> list[Call]:
    """What a Sequential or Functional model calls, on which symbolic tensors."""
    nodes_by_depth = (_functional_in(model) or model)._nodes_by_depth
    return [
        Call(node.operation, node.arguments.keras_tensors, node.outputs)
        for _, nodes in sorted(nodes_by_depth.items(), reverse=True)
        for node in nodes
        if not node.is_input
    ]


def attributes(layer: keras.Layer) -> dict[str, Any]:
    """Attributes of a layer by name, those aside in which Keras keeps books."""
    modules = vars(layer).get("_modules") or {}  # where torch moves layers to
    return {
        name: value
        for name, value in {**vars(layer), **modules}.items()
        if name not in _BOOKS and not name.startswith("_self_")
    }


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Variables of a layer itself, its weights first, without those of its layers."""
    seeds = [generator.state for generator in layer._seed_generators]
    return [*own_weights(layer), *seeds]


def matrix_attribute(layer: keras.Layer) -> str:
    """Name of the attribute that a Dense or Embedding keeps its matrix in."""
    return f"_{matrix_name(layer)}"


def copy_trainable(layer: keras.Layer, copy: keras.Layer) -> None:
    """Freeze a copy as the layer itself is, whatever is inside it."""
    copy._trainable = layer._trainable
    for source, target in zip(own_weights(layer), own_weights(copy), strict=True):
        target.trainable = source.trainable


def exchange_layers(
    holders: list[keras.Layer], pairs: list[tuple[keras.Layer, keras.Layer]]
) -> None:
    """Put new layers in the place of old ones wherever one of the holders holds them.

    Args:
        holders: Layers and models.
        pairs: Old and new layers. The other way round they undo the exchange.
    """
    holders = [*holders, *filter(None, map(_functional_in, holders))]
    new_for = {id(old): new for old, new in pairs}
    for holder in holders:
        for old, new in pairs:
            if holder._tracker.is_in_store("layers", old):
                holder._tracker.replace_tracked_value("layers", old, new)
        _exchanged(holder._layers, new_for)  # a list of its own in Sequential models
        for name, value in attributes(holder).items():
            exchanged = _exchanged(value, new_for)
            if exchanged is not value:
                _set_attribute(holder, name, exchanged)
    for old, new in pairs:
        _exchange_nodes(old, new)
    for holder in holders:
        if isinstance(holder, Functional):
            _map_graph_again(holder)
        if "_torch_params" in vars(holder).get("_modules", {}):
            holder._track_variables()  # torch has a list of all weights inside


def _set_attribute(holder: keras.Layer, name: str, value: Any) -> None:
    """Set an attribute of a built layer, tracked if the old value was."""
    if isinstance(value, keras.Layer) and not holder._tracker.is_in_store(
        "layers", value
    ):
        object.__setattr__(holder, name, value)
        return
    locked = holder._tracker.locked
    holder._tracker.unlock()
    setattr(holder, name, value)
    if locked:
        holder._tracker.lock()


def _exchanged(value: Any, new_for: dict[int, keras.Layer]) -> Any:
    """A value with the new layers; lists and dicts are changed where they are."""
    if id(value) in new_for:
        return new_for[id(value)]
    if isinstance(value, tuple):
        entries = [_exchanged(entry, new_for) for entry in value]
        if any(a is not b for a, b in zip(entries, value, strict=True)):
            return value._make(entries) if hasattr(value, "_make") else tuple(entries)
    elif isinstance(value, list | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in list(items):
            exchanged = _exchanged(entry, new_for)
            if exchanged is not entry:
                value[key] = exchanged
    return value


def _exchange_nodes(old: keras.Layer, new: keras.Layer) -> None:
    """Let the calls that graphs recorded of one layer be calls of another."""
    for name in ("_inbound_nodes", "_outbound_nodes"):
        nodes = getattr(old, name), getattr(new, name)
        object.__setattr__(new, name, nodes[0])
        object.__setattr__(old, name, nodes[1])
    for layer in (old, new):
        for node in layer._inbound_nodes:
            node.operation = layer
            for tensor in node.outputs:
                history = tensor._keras_history
                tensor._keras_history = history._replace(operation=layer)


def _map_graph_again(model: keras.Model) -> None:
    with DotNotTrackScope():
        (
            model._nodes,
            model._nodes_by_depth,
            model._operations,
            model._operations_by_depth,
        ) = map_graph(model._inputs, model._outputs)


def graph_inputs(model: keras.Model) -> Any:
    """Symbolic inputs of a Sequential or Functional model, in their structure."""
    return (_functional_in(model) or model)._inputs_struct


def last_layers(model: keras.Model) -> list[keras.Layer]:
    """Layers with weights that no other such layer follows, if the model is a graph."""
    if not is_graph(model):
        return []
    last, seen = [], set()
    tensors = keras.tree.flatten((_functional_in(model) or model).outputs)
    while tensors:
        layer, node_index, _ = tensors.pop()._keras_history
        if (layer, node_index) in seen:
            continue
        seen.add((layer, node_index))
        if isinstance(layer, keras.Model):
            last += last_layers(layer)
        elif getattr(layer, "weights", None):
            last.append(layer)
        else:
            tensors += layer._inbound_nodes[node_index].input_tensors
    return last


def input_tensors(model: keras.Model, dtype: str) -> Any | None:
    """Symbolic inputs of a model; None if it takes several and is no graph.

    Args:
        model: A built model.
        dtype: Of the input, unless the model is a graph, which knows its inputs.
    """
    if is_graph(model):
        return graph_inputs(model)
    inputs = [*_inputs_by_name(model, dtype).values()]
    return inputs[0] if len(inputs) == 1 else None


def _inputs_by_name(model: keras.Model, dtype: str) -> dict[str, Any]:
    """Symbolic inputs of a model that is no graph; "" for a name not recorded."""
    config = model.get_build_config()
    shapes = config.get("shapes_dict") or {"": config["input_shape"]}
    return {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(
            lambda shape: keras.KerasTensor(shape, dtype), shape
        )
        for name, shape in shapes.items()
    }


def trace(model: keras.Model, dtype: str) -> None:
    """Run call() of a model and of all that it calls, on shapes instead of numbers.

    Args:
        model: A built model.
        dtype: Of all inputs, unless the model is a graph, which knows its inputs.
    """
    if is_graph(model):
        backend.compute_output_spec(model, graph_inputs(model))
        return
    inputs = _inputs_by_name(model, dtype)
    first = [inputs.pop("")] if "" in inputs else []
    backend.compute_output_spec(model, *first, **inputs)


@contextmanager
def in_memory() -> Iterator[None]:
    """Serialize and deserialize within this process.

    Shared objects stay shared and the code of Lambda layers, which runs already, is
    trusted.
    """
    with ObjectSharingScope(), SafeModeScope(False):
        yield


@contextmanager
def building_the_rest() -> Iterator[None]:
    """Keep quiet about what Keras can't build from a config, as we build it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`build\(\)` was called on layer")
        warnings.filterwarnings("ignore", "Model '.*' had a build config")
        yield


@contextmanager
def without_training_state(model: keras.Model) -> Iterator[None]:
    """Hide optimizer, loss and metrics from saving, and put them back."""
    hidden = {
        name: model.__dict__.pop(name)
        for name in (*_TRAINING_STATE, "compiled")
        if name in model.__dict__
    }
    model.__dict__["compiled"] = False
    try:
        yield
    finally:
        model.__dict__.update(hidden)
