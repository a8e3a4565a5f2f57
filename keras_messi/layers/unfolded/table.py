"""The kinds of layers that can be unfolded, one entry each."""

from collections.abc import Callable
from typing import Any

import keras

from keras_messi._keras_internals import own_weights
from keras_messi.layers.kinds import plain_type
from keras_messi.layers.unfolded.base import UnfoldedLayer
from keras_messi.layers.unfolded.convolutions.convolution import CompressedConv
from keras_messi.layers.unfolded.convolutions.grouped_convolution import (
    CompressedGroupedConv,
)
from keras_messi.layers.unfolded.convolutions.separable_convolution import (
    CompressedSeparableConv,
)
from keras_messi.layers.unfolded.einsum_dense import CompressedEinsumDense
from keras_messi.layers.unfolded.recurrent import CompressedRecurrent
from keras_messi.layers.unfolded.untied_embedding import UntiedEmbedding

_KINDS: dict[type, type[UnfoldedLayer]] = {
    keras.layers.Conv1D: CompressedGroupedConv,
    keras.layers.Conv1DTranspose: CompressedConv,
    keras.layers.Conv2D: CompressedGroupedConv,
    keras.layers.Conv2DTranspose: CompressedConv,
    keras.layers.Conv3D: CompressedGroupedConv,
    keras.layers.Conv3DTranspose: CompressedConv,
    keras.layers.EinsumDense: CompressedEinsumDense,
    keras.layers.GRU: CompressedRecurrent,
    keras.layers.LSTM: CompressedRecurrent,
    keras.layers.ReversibleEmbedding: UntiedEmbedding,
    keras.layers.SeparableConv1D: CompressedSeparableConv,
    keras.layers.SeparableConv2D: CompressedSeparableConv,
    keras.layers.SimpleRNN: CompressedRecurrent,
}

# Why kinds of layers have no entry that one could expect to have one.
_LEFT: dict[type, str] = {
    keras.layers.DepthwiseConv1D: "its kernel is too small to pay",
    keras.layers.DepthwiseConv2D: "its kernel is too small to pay",
}


def register_layer(
    layer_class: type,
) -> Callable[[type[UnfoldedLayer]], type[UnfoldedLayer]]:
    """Let layers of a class be compressed, by a class that unfolds their kernels.

    Args:
        layer_class: A subclass of `keras.Layer`. It stands for itself, not for
            subclasses with code of their own.

    Returns:
        A decorator of a subclass of `keras_messi.layers.UnfoldedLayer`.

    Raises:
        ValueError: One of the two is no such class.
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise ValueError(
            "`layer_class` must be a subclass of keras.Layer. Received: "
            f"layer_class={layer_class!r}"
        )

    def register(unfolded: type[UnfoldedLayer]) -> type[UnfoldedLayer]:
        if not (isinstance(unfolded, type) and issubclass(unfolded, UnfoldedLayer)):
            raise ValueError(
                "`register_layer` must decorate a subclass of UnfoldedLayer. "
                f"Received: {unfolded!r}"
            )
        _KINDS[layer_class] = unfolded
        return unfolded

    return register


def unfold(layer: keras.Layer) -> UnfoldedLayer | None:
    """A layer that computes the same with Dense layers inside, if there can be one."""
    if isinstance(layer, UnfoldedLayer):
        return layer
    return _KINDS[plain_type(layer)].unfold(layer) if is_unfoldable(layer) else None


def is_unfoldable(layer: keras.Layer) -> bool:
    """Whether `unfold` gives a layer."""
    if isinstance(layer, UnfoldedLayer):
        return True
    kind = _KINDS.get(plain_type(layer))
    return kind is not None and layer.built and _obstacle(kind, layer) is None


def why_not_unfolded(layer: keras.Layer) -> str:
    """What is in the way of unfolding a layer; "" if nothing is, or it is empty."""
    cls = plain_type(layer)
    if cls in _KINDS:
        return _obstacle(_KINDS[cls], layer) or ""
    if cls in _LEFT:
        return _LEFT[cls]
    base = next((x for x in _KINDS if isinstance(layer, x)), None)
    return f"a {base.__name__} with code of its own" if base else _of_others(layer)


def _of_others(layer: keras.Layer) -> str:
    shapes = [weight.shape for weight in own_weights(layer)]
    if any(sum(size > 1 for size in shape) > 1 for shape in shapes):
        name = type(layer).__name__
        return f"no unfolding of a {name} is known: keras_messi.register_layer adds one"
    return "its weights are vectors" if shapes else ""


def _obstacle(kind: type[UnfoldedLayer], layer: Any) -> str | None:
    if getattr(layer, "quantization_mode", None):
        return f"Keras quantized it ({layer.quantization_mode})"
    if getattr(layer, "lora_enabled", False):
        return "it has LoRA weights"
    return kind.obstacle(layer)
