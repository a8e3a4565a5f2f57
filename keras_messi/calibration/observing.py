"""Watch what layers of a model receive while it runs on real data."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from keras_messi._keras_internals import graph_inputs, is_graph

# Is given the inputs of a layer, as a tensor of the backend with values.
Observer = Callable[[Any], None]
# Runs a model on a batch.
Run = Callable[[Any], None]


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

    def run(batch: Any) -> None:
        _check_ids(model, batch)
        # What some layers count or remember from call to call is dropped.
        with eagerly(), keras.StatelessScope():
            model(batch, training=False)

    with ExitStack() as stack:
        for layer, observer in observers.items():
            stack.enter_context(calls_wrapped(layer, observer))
        yield run


@contextmanager
def calls_wrapped(layer: Any, observer: Observer) -> Iterator[None]:
    """Let a layer of Keras or tf_keras tell what it is called on."""
    call = layer.call
    own = vars(layer).get("call")
    signature = inspect.signature(call)

    def observed(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        inputs = next(iter(arguments.values()))
        if has_values(inputs) and not arguments.get("reverse", False):
            observer(inputs)
        return call(*args, **kwargs)

    # Past the books that Keras keeps on attributes.
    object.__setattr__(layer, "call", observed)
    try:
        yield
    finally:
        if own is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", own)


def has_values(tensor: Any) -> bool:
    """Whether a tensor is more than a shape and a dtype that stand for one."""
    if isinstance(tensor, keras.KerasTensor):
        return False
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not (tf.is_tensor(tensor) and tf.is_symbolic_tensor(tensor))
    if keras.backend.backend() == "jax":
        import jax

        return not isinstance(tensor, jax.core.Tracer)
    return tensor.device.type != "meta"


@contextmanager
def eagerly() -> Iterator[None]:
    """Let functions that were compiled run as Python, with values and no gradients."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        before = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(before)
    elif keras.backend.backend() == "jax":
        import jax

        with jax.disable_jit():
            yield
    else:
        import torch

        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
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


def is_integral(array: np.ndarray) -> bool:
    """Whether an array holds integers only, be it as floats."""
    return array.dtype.kind != "f" or bool(np.array_equal(array, np.round(array)))
