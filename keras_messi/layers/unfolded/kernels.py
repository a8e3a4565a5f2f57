"""What a layer multiplies and adds that takes the place of a Dense layer."""

from typing import Any

from keras import ops

Tensor = Any


def kernel_and_bias(layer: Any, n: int, dtype: str) -> tuple[Tensor, Tensor | None]:
    """The kernel `(n, units)` and the bias that a layer computes with when called.

    Args:
        layer: A built layer with linear activation: a Dense layer of Keras, also
            quantized, one of ours, or any other that computes a product of a matrix
            and adds a bias, such as a `QuantNoise`.
        n: Number of inputs.
        dtype: Of what is returned.
    """
    if not hasattr(layer, "kernel"):
        # Called, as what it computes with may be drawn anew for each call.
        bias = layer(ops.zeros((1, n), dtype))
        return layer(ops.eye(n, dtype=dtype)) - bias, ops.squeeze(bias, 0)
    bias = None if layer.bias is None else ops.cast(layer.bias, dtype)
    kernel = ops.cast(layer.kernel, dtype)
    if getattr(layer, "quantization_mode", None):
        kernel = _scaled(kernel, layer, dtype)
    return kernel, bias


def _scaled(integers: Tensor, layer: Any, dtype: str) -> Tensor:
    """The kernel of a layer that Keras quantized, in columns or in blocks of them."""
    scales = ops.cast(layer.kernel_scale, dtype)
    if len(scales.shape) == 1:
        return integers / scales
    blocks = ops.cast(layer.g_idx, "int32")
    zeros = ops.take(ops.cast(layer.kernel_zero, dtype), blocks, axis=0)
    return (integers - zeros) * ops.take(scales, blocks, axis=0)
