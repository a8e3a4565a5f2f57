"""Convolutions in groups: a convolution for each group."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from keras_messi.layers.unfolded.convolutions.base import (
    Tensor,
    UnfoldedConvolution,
)
from keras_messi.layers.unfolded.convolutions.convolution import CompressedConv
from keras_messi.layers.unfolded.stock import unbuilt

_PREFIX = "group_"

# Channels and filters of a group below which factors of its kernel save too little, as
# in a depthwise convolution that is written with a group for each channel.
_FEWEST = 8


@keras.saving.register_keras_serializable(package="keras_messi")
class CompressedGroupedConv(UnfoldedConvolution):
    """A convolution whose filters see a part of the channels, in one layer a group.

    The kernel of a group, `(*window, channels / groups, filters / groups)`, is that of
    a convolution of its own; the kernel of all has nothing in common between groups
    that one matrix could use. Outputs of the groups stand side by side, as in Keras.

    Args:
        convolutions: One for each group, with linear activation and channels last,
            also where the layer has them first: not all backends convolve so.
        layer: A Conv1D, Conv2D or Conv3D of Keras that says all else, by its config.
        **kwargs: What `keras.Layer` takes.

    Raises:
        ValueError: There are not as many convolutions as groups.

    Example:

    >>> import keras
    >>> from keras_messi.layers import (
    ...     CompressedConv, CompressedGroupedConv, MessiDense
    ... )
    >>> groups = [
    ...     CompressedConv(
    ...         MessiDense(3 * 16, num_clusters=1, rank=4, use_bias=False),
    ...         keras.layers.Conv2D(16, 3),
    ...         row_axes=[0],
    ...     )
    ...     for _ in range(2)
    ... ]
    >>> layer = CompressedGroupedConv(groups, keras.layers.Conv2D(32, 3, groups=2))
    >>> layer(keras.ops.ones((2, 10, 10, 12))).shape
    TensorShape([2, 8, 8, 32])
    """

    dense_names: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        convolutions: Sequence[CompressedConv],
        layer: keras.Layer,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, **kwargs)
        if len(convolutions) != self.layer.groups:
            raise ValueError(
                "`convolutions` must be one for each group of `layer`. Received: "
                f"{len(convolutions)} convolutions for {self.layer.groups} groups"
            )
        self.convolutions = list(convolutions)

    @classmethod
    def obstacle(cls, layer: Any) -> str | None:
        *_, channels, filters = layer.kernel.shape
        if layer.groups > 1 and min(channels, filters // layer.groups) < _FEWEST:
            return f"the kernels of its {layer.groups} groups are too small to pay"
        return CompressedConv.obstacle(layer)

    @classmethod
    def unfold(cls, layer: Any) -> Any:
        """A built layer that computes the same; a CompressedConv for a single group."""
        if layer.groups == 1:
            return CompressedConv.unfold(layer)
        unfolded = cls(
            [CompressedConv.unfold(part) for part in _parts(layer)],
            layer,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
        unfolded.build(layer.get_build_config()["input_shape"])
        return unfolded

    @property
    def dense_layers(self) -> dict[str, keras.Layer]:
        return {f"{_PREFIX}{i}": conv.dense for i, conv in enumerate(self.convolutions)}

    def convolution(self, name: str) -> CompressedConv:
        """The convolution with a Dense layer, by the name of that."""
        return self.convolutions[int(name.removeprefix(_PREFIX))]

    def with_dense(self, new: Mapping[str, keras.Layer]) -> Self:
        parts = [
            conv.with_dense({"dense": new[name]} if name in new else {})
            for name, conv in zip(self.dense_layers, self.convolutions, strict=True)
        ]
        copy = self.from_config({**self.get_config(), "convolutions": parts})
        copy.build_from_config(self.get_build_config())
        return copy

    def build(self, input_shape: Sequence[int | None]) -> None:
        num_channels: Any = input_shape[self._channel_axis]
        shape = [None] * (self.layer.rank + 1) + [num_channels // self.layer.groups]
        for conv in self.convolutions:
            if not conv.built:
                conv.build(tuple(shape))
        self._take_channels(input_shape)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        outputs = [
            conv(part)
            for conv, part in zip(self.convolutions, self._split(inputs), strict=True)
        ]
        together = ops.cast(ops.concatenate(outputs, -1), self.compute_dtype)
        return self._activated(ops.moveaxis(together, -1, self._channel_axis))

    def rows(self, name: str, inputs: Tensor) -> Tensor:
        i = self.convolutions.index(self.convolution(name))
        return self.convolutions[i].rows("dense", self._split(inputs)[i])

    def _split(self, inputs: Tensor) -> list[Tensor]:
        """The channels of each group."""
        x = self._channels_last(inputs)
        return list(ops.split(x, len(self.convolutions), axis=-1))

    def get_config(self) -> dict[str, Any]:
        parts = [keras.saving.serialize_keras_object(x) for x in self.convolutions]
        return {**super().get_config(), "convolutions": parts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        parts = [
            x
            if isinstance(x, keras.Layer)
            else keras.saving.deserialize_keras_object(x)
            for x in config["convolutions"]
        ]
        return super().from_config({**config, "convolutions": parts})


def _parts(layer: Any) -> Iterator[Any]:
    """Built layers that convolve in one group, as each group of a layer does."""
    kernels = np.split(ops.convert_to_numpy(layer.kernel), layer.groups, axis=-1)
    biases: list[list[np.ndarray]] = [[]] * layer.groups
    if layer.bias is not None:
        biases = [[x] for x in np.split(ops.convert_to_numpy(layer.bias), layer.groups)]
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        part = unbuilt(
            layer,
            groups=1,
            filters=kernel.shape[-1],
            data_format="channels_last",
            activation=None,
            activity_regularizer=None,
            name=f"{layer.name}_{_PREFIX}{i}",
        )
        part.build((*[None] * (layer.rank + 1), kernel.shape[-2]))
        part.set_weights([kernel, *bias])
        yield part
