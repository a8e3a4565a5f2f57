"""What convolutions have in common that compute with a Dense layer inside them."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_messi.layers.unfolded.base import UnfoldedLayer
from keras_messi.layers.unfolded.stock import unbuilt

Tensor = Any


class UnfoldedConvolution(UnfoldedLayer):
    """A convolution of any kind with kernels in Dense layers.

    Args:
        layer: A layer of Keras that says all else, by its config.
        **kwargs: What `keras.Layer` takes.
    """

    dense: Any

    def __init__(self, layer: keras.Layer, **kwargs: Any) -> None:
        kwargs["activity_regularizer"] = layer.activity_regularizer
        super().__init__(**kwargs)
        self.layer: Any = unbuilt(layer)
        self.activation = self.layer.activation
        self.input_spec = keras.InputSpec(ndim=self.layer.rank + 2)

    @property
    def _channel_axis(self) -> int:
        return -1 if self.layer.data_format == "channels_last" else 1

    def _build_dense(self, input_shape: Sequence[int | None], n: int, d: int) -> None:
        """Build a Dense layer for an (n, d) kernel, or check that it has one."""
        if not self.dense.built:
            self.dense.build((None, n))
        _, units = self.dense.compute_output_shape((None, n))
        if self.dense.input_spec.axes != {-1: n} or units != d:
            raise ValueError(
                f"`dense` must have a kernel of shape {(n, d)} for inputs of shape "
                f"{tuple(input_shape)}. Received: dense={self.dense} with units="
                f"{units}, for inputs {self.dense.input_spec}"
            )
        self._take_channels(input_shape)

    def _take_channels(self, input_shape: Sequence[int | None]) -> None:
        """Let inputs have as many channels as these from now on."""
        axis = self._channel_axis
        self.input_spec = keras.InputSpec(
            ndim=self.layer.rank + 2, axes={axis: input_shape[axis]}
        )

    def _channels_last(self, x: Tensor) -> Tensor:
        """Inputs with the channels last."""
        return ops.moveaxis(x, self._channel_axis, -1)

    def _products(self, inputs: Tensor) -> Tensor:
        """Outputs of the Dense layer, as the data format has them."""
        products = ops.cast(self.dense(self.rows("dense", inputs)), self.compute_dtype)
        return ops.moveaxis(products, -1, self._channel_axis)

    def _activated(self, outputs: Tensor) -> Tensor:
        return outputs if self.activation is None else self.activation(outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(self.layer.compute_output_shape(input_shape))

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return super().from_config({**config, "layer": layer})
