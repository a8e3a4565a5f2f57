"""The only file that touches private Keras."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
from keras.src import backend
from keras.src.models.functional import Functional
from keras.src.saving.serialization_lib import SafeModeScope

# Attributes of a compiled model that Keras saves beside its layers.
_TRAINING_STATE = ("optimizer", "_loss_tracker", "_compile_metrics", "_compile_loss")


def is_graph(layer: keras.Layer) -> bool:
    """Whether the layer is a Sequential or Functional model."""
    return isinstance(layer, keras.Sequential | Functional)


def graph_layers(model: keras.Model) -> list[keras.Layer]:
    """Direct layers of a Sequential or Functional model, each once."""
    return list({id(layer): layer for layer in model.layers}.values())


class Call(NamedTuple):
    """One use of a layer in a graph."""

    layer: keras.Layer
    inputs: list[Any]
    outputs: list[Any]


def graph_calls(model: keras.Model) -> list[Call]:
    """What a Sequential or Functional model calls, on which symbolic tensors."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return [
        Call(node.operation, node.arguments.keras_tensors, node.outputs)
        for _, nodes in sorted(graph._nodes_by_depth.items(), reverse=True)
        for node in nodes
        if not node.is_input
    ]


def inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """All layers held by a layer, at any depth."""
    return layer._flatten_layers(include_self=False)


def trusting_own_code() -> SafeModeScope:
    """Let Lambda layers of a model in memory be copied: their code runs already."""
    return SafeModeScope(False)


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


def set_mask(outputs: Any, mask: Any) -> None:
    """Mark the outputs of a layer as Keras does with what `compute_mask` returns."""
    backend.set_keras_mask(outputs, mask)
