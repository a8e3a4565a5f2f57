"""Observers of layers, and how a model runs with them or with other layers."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_messi._keras_internals import attribute_set

# Is given the inputs of a layer, as a tensor of the backend with values.
Observer = Callable[[Any], None]
# Runs a model on a batch, and returns its outputs.
Run = Callable[[Any], Any]
# What an observer is given of the arguments of a call, by name; None for nothing.
Received = Callable[..., Any]


def _first_unless_reversed(reverse: bool = False, **arguments: Any) -> Any:
    return None if reverse else next(iter(arguments.values()))


@contextmanager
def calls_wrapped(
    layer: Any, observer: Observer, received: Received = _first_unless_reversed
) -> Iterator[None]:
    """Let a layer of Keras or tf_keras tell what it is called on.

    Args:
        layer: The layer.
        observer: What to tell.
        received: What to tell it of the arguments of a call.
    """
    call = layer.call
    signature = inspect.signature(call)

    @functools.wraps(call)  # so that what wraps it next finds the signature
    def observed(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        if has_values(next(iter(arguments.values()))):
            inputs = received(**arguments)
            if inputs is not None:
                observer(inputs)
        return call(*args, **kwargs)

    with attribute_set(layer, "call", observed):
        yield


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


def is_integral(array: np.ndarray) -> bool:
    """Whether an array holds integers only, be it as floats."""
    return array.dtype.kind != "f" or bool(np.array_equal(array, np.round(array)))
