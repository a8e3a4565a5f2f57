"""What layers and their observers need of private Keras."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras.src import backend


def own_weights(layer: keras.Layer) -> list[keras.Variable]:
    """Weights of a layer itself, without those of its layers."""
    return layer._trainable_variables + layer._non_trainable_variables


class QuantizesWeights:
    """A layer whose `quantize` checks its arguments itself.

    Keras refuses int8 in float16 for the sake of quantized activations.
    """

    def _check_quantize_args(self, mode: str, compute_dtype: str) -> None:
        """Check nothing."""


@contextmanager
def cheap_collections() -> Iterator[None]:
    """Let Keras look for garbage among new objects only.

    For each weight that it deletes, it collects the garbage of the whole process.
    """
    if gc.get_freeze_count():  # for good reasons of the user's, and as cheap
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def replacing_weights(layer: keras.Layer) -> Iterator[None]:
    """Take all weights of a built layer away, and let it create new ones."""
    for variable in own_weights(layer):
        layer._untrack_variable(variable)
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.lock()
    layer.trainable = layer.trainable  # which new weights take over


@contextmanager
def attribute_set(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a layer, past the books that are kept on attributes."""
    own, has_own = vars(owner).get(name), name in vars(owner)
    object.__setattr__(owner, name, value)
    try:
        yield
    finally:
        if has_own:
            object.__setattr__(owner, name, own)
        else:
            object.__delattr__(owner, name)


def set_mask(outputs: Any, mask: Any) -> None:
    """Mark the outputs of a layer as Keras does with what `compute_mask` returns."""
    backend.set_keras_mask(outputs, mask)


def copy_mask(source: Any, target: Any) -> None:
    """Mark a tensor with the mask of another one, if the axes of that are its first."""
    mask = backend.get_keras_mask(source)
    if mask is not None and mask.shape == target.shape[: len(mask.shape)]:
        backend.set_keras_mask(target, mask)


def mask_of(tensor: Any) -> Any | None:
    """What Keras marked a tensor with, as an array of bools, or None."""
    mask = backend.get_keras_mask(tensor)
    return None if mask is None else keras.ops.convert_to_numpy(mask)
