"""Separable convolutions, whose pointwise kernel is that of a Dense layer."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_messi.layers.unfolded.convolutions.base import (
    Tensor,
    UnfoldedConvolution,
)
from keras_messi.layers.unfolded.stock import dense_for


@keras.saving.register_keras_serializable(package="keras_messi")
class CompressedSeparableConv(UnfoldedConvolution):
    """A separable convolution whose pointwise kernel is that of a Dense layer.

    The depthwise kernel, which is small, is a weight of the layer as it was.

    Args:
        dense: The Dense layer from the channels after the depthwise convolution to the
            filters, such as a `MessiDense`, with linear activation. Its bias is that of
            the convolution.
        layer: A SeparableConv1D or SeparableConv2D of Keras that says all else, by its
            config.
        **kwargs: What `keras.Layer` takes.

    Example:

    >>> import keras
    >>> from keras_messi.layers import CompressedSeparableConv, MessiDense
    >>> layer = CompressedSeparableConv(
    ...     MessiDense(32, num_clusters=1, rank=4),
    ...     keras.layers.SeparableConv2D(32, 3, padding="same"),
    ... )
    >>> layer(keras.ops.ones((2, 10, 10, 16))).shape
    TensorShape([2, 10, 10, 32])
    """

    def __init__(self, dense: keras.Layer, layer: keras.Layer, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.dense = dense

    @classmethod
    def obstacle(cls, layer: Any) -> str | None:
        if layer.pointwise_constraint is not None:
            return "a matrix can't keep the constraint of its pointwise kernel"
        has_numbers = all(layer.pointwise_kernel.shape)
        return None if has_numbers else "its kernel has no numbers"

    @classmethod
    def unfold(cls, layer: Any) -> Self:
        kernel = ops.convert_to_numpy(layer.pointwise_kernel)
        matrix = kernel.reshape(kernel.shape[-2:])
        unfolded = cls(
            dense_for(layer, matrix, layer.bias, "pointwise"),
            layer,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
        unfolded.build(layer.get_build_config()["input_shape"])
        unfolded.depthwise_kernel.assign(layer.depthwise_kernel)
        return unfolded

    def build(self, input_shape: Sequence[int | None]) -> None:
        layer, num_channels = self.layer, input_shape[self._channel_axis]
        n = num_channels * layer.depth_multiplier
        self._build_dense(input_shape, n, layer.filters)
        self.depthwise_kernel = self.add_weight(
            name="depthwise_kernel",
            shape=(*layer.kernel_size, num_channels, layer.depth_multiplier),
            initializer=layer.depthwise_initializer,
            regularizer=layer.depthwise_regularizer,
            constraint=layer.depthwise_constraint,
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        return self._activated(self._products(inputs))

    def rows(self, name: str, inputs: Tensor) -> Tensor:
        return ops.depthwise_conv(
            self._channels_last(inputs),
            self.depthwise_kernel,
            strides=self.layer.strides,
            padding=self.layer.padding,
            data_format="channels_last",
            dilation_rate=self.layer.dilation_rate,
        )
