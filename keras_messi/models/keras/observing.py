"""Run a Keras model with layers that are observed, or that others answer for."""

import operator
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

import keras

from keras_messi._keras_internals import attribute_set, copy_mask
from keras_messi.calibration.observing import (
    Observer,
    Run,
    calls_wrapped,
    eagerly,
    is_integral,
)
from keras_messi.layers.kinds import has_matrix, matrix_name
from keras_messi.layers.unfolded.base import StandsFor, stands_for, with_unfolded
from keras_messi.models.keras._keras_internals import (
    graph_inputs,
    is_graph,
    matrix_attribute,
)


@contextmanager
def observe_layers(
    model: keras.Model, observers: Mapping[keras.Layer, Observer]
) -> Iterator[Run]:
    """Tell observers what layers receive whenever the model is run inside.

    The model runs eagerly and in inference mode. A layer that is only traced, or runs
    under `jax.vmap`, receives no values, and nothing is told of it.

    Args:
        model: A built model. It is left as it is, whatever is raised inside.
        observers: What to call for each layer. An embedding that is called with
            `reverse=True` looks nothing up and tells nothing.

    Returns:
        A context with a function that runs the model on a batch.
    """

    def run(batch: Any) -> Any:
        _check_ids(model, batch)
        # What some layers count or remember from call to call is dropped.
        with eagerly(), keras.StatelessScope():
            return model(batch, training=False)

    with ExitStack() as stack:
        for layer, observer in observers.items():
            link = stands_for(layer)
            watched = (
                calls_wrapped(layer, observer)
                if link is None
                else calls_wrapped(link.layer, observer, partial(_rows, link))
            )
            stack.enter_context(watched)
        yield run


def _rows(link: StandsFor, **arguments: Any) -> Any:
    """What a Dense layer multiplies when the layer is called that it stands for."""
    rows = link.unfolded.rows(link.name, **arguments)
    if rows is not None:
        copy_mask(next(iter(arguments.values())), rows)
    return rows


@contextmanager
def substitute_layers(
    model: keras.Model, new_layers: Mapping[keras.Layer, keras.Layer]
) -> Iterator[None]:
    """Let other layers answer for some of a model whenever it is run inside.

    Args:
        model: A built model. It is left as it is, whatever is raised inside.
        new_layers: A built layer for each layer that it answers for.
    """
    with ExitStack() as stack:
        for layer, new in with_unfolded(new_layers).items():
            call = wraps(layer.call)(partial(operator.call, new))
            stack.enter_context(attribute_set(layer, "call", call))
            if not has_matrix(layer):
                continue
            matrix = getattr(new, matrix_name(layer))
            # Which code beside the layer may multiply by, such as a tied head.
            stack.enter_context(attribute_set(layer, matrix_attribute(layer), matrix))
        yield


def _check_ids(model: keras.Model, batch: Any) -> None:
    """Raise ValueError if a graph would cut the ids in a batch off to integers."""
    if not is_graph(model):
        return
    expected = keras.tree.flatten(graph_inputs(model))
    by_name = isinstance(batch, dict) and not isinstance(graph_inputs(model), dict)
    given = (
        [batch.get(x.name) for x in expected] if by_name else keras.tree.flatten(batch)
    )
    for symbol, array in zip(expected, given, strict=False):
        if array is not None and "int" in symbol.dtype and not is_integral(array):
            raise ValueError(
                f"Input '{symbol.name}' takes integers. Received: {array.dtype} "
                "numbers that are none"
            )
