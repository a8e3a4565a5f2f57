"""Convolutions, and transposed ones, whose kernel is that of a Dense layer."""

import math
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_messi.layers.dense import StoredDense
from keras_messi.layers.unfolded.convolutions.base import (
    Tensor,
    UnfoldedConvolution,
)
from keras_messi.layers.unfolded.convolutions.windows import Fold, best_row_axes
from keras_messi.layers.unfolded.kernels import kernel_and_bias
from keras_messi.layers.unfolded.stock import dense_for

Kernel = tuple[Tensor, Sequence[int]]  # with the axes that it is along

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


@keras.saving.register_keras_serializable(package="keras_messi")
class CompressedConv(UnfoldedConvolution):
    """A convolution, or a transposed one, whose kernel is that of a Dense layer.

    A kernel of shape `(*window, channels, filters)` is unfolded into a matrix with the
    channels and some axes of the window in its rows, the filters and the other axes in
    its columns. Of rank r, such a matrix is two convolutions: one along the axes in the
    rows, from the channels to r others, and one along the other axes, from these to the
    filters. With `row_axes=[0]`, a window of 3 x 3 becomes one of 3 x 1 and one of
    1 x 3; with `row_axes=[0, 1]`, one of 3 x 3 and one of 1 x 1.

    So it computes if the Dense layer has factors that take fewer products. Of any
    other, the kernel is multiplied out, and it is one convolution.

    Args:
        dense: The Dense layer, such as a `MessiDense`, with linear activation. If all
            axes of the window are in its rows, its bias is that of the convolution.
            Otherwise it must have none.
        layer: A layer of Keras that says all else, by its config: Conv1D, Conv2D,
            Conv3D or one of these transposed.
        row_axes: The axes of the window in the rows, in ascending order; one at least.
        **kwargs: What `keras.Layer` takes.

    Raises:
        ValueError: The layer has groups, or no such axes.

    Example:

    >>> import keras
    >>> from keras_messi.layers import CompressedConv, MessiDense
    >>> layer = CompressedConv(
    ...     MessiDense(3 * 32, num_clusters=1, rank=8, use_bias=False),
    ...     keras.layers.Conv2D(32, 3, padding="same"),
    ...     row_axes=[0],
    ... )
    >>> layer(keras.ops.ones((2, 10, 10, 16))).shape
    TensorShape([2, 10, 10, 32])

    Reference:
        - [Jaderberg et al., 2014](https://arxiv.org/abs/1405.3866), Section 2.1,
          Scheme 2: along one axis of the window, then along the other.
        - [Denil et al., 2013](https://arxiv.org/abs/1306.0543): all of the window,
          then 1 x 1.
    """

    def __init__(
        self,
        dense: keras.Layer,
        layer: keras.Layer,
        row_axes: Sequence[int],
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, **kwargs)
        self.dense = dense
        if getattr(self.layer, "groups", 1) != 1:
            raise ValueError(
                "`layer` must convolve in one group. Received: "
                f"layer={self.layer} with groups={self.layer.groups}"
            )
        all_axes = range(self.layer.rank)
        known = [axis for axis in all_axes if axis in row_axes]
        if not row_axes or list(row_axes) != known:
            raise ValueError(
                f"`row_axes` must be some of the axes {list(all_axes)} of the window, "
                f"in ascending order. Received: row_axes={row_axes}"
            )
        self.row_axes = tuple(known)
        self._column_axes = tuple(i for i in all_axes if i not in self.row_axes)
        self.is_transposed = isinstance(layer, _TRANSPOSED)
        self._bias_is_inside = not self._column_axes

    @classmethod
    def obstacle(cls, layer: Any) -> str | None:
        if layer.kernel_constraint is not None:
            return "a matrix can't keep the constraint of its kernel"
        return None if all(layer.kernel.shape) else "its kernel has no numbers"

    @classmethod
    def unfold(cls, layer: Any, row_axes: Sequence[int] | None = None) -> Self:
        kernel = ops.convert_to_numpy(layer.kernel)
        if isinstance(layer, _TRANSPOSED):
            kernel = np.swapaxes(kernel, -1, -2)
        row_axes = best_row_axes(kernel) if row_axes is None else tuple(row_axes)
        *window, channels, filters = kernel.shape
        fold = Fold(tuple(window), channels, filters, row_axes)
        unfolded = cls(
            dense_for(
                layer,
                fold.matrix(kernel),
                layer.bias if len(row_axes) == layer.rank else None,
            ),
            layer,
            row_axes,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
        unfolded.build(layer.get_build_config()["input_shape"])
        if unfolded.bias is not None:
            unfolded.bias.assign(layer.bias)
        return unfolded

    def build(self, input_shape: Sequence[int | None]) -> None:
        self._num_channels: Any = input_shape[self._channel_axis]
        (fold,) = self.folds()
        self._build_dense(input_shape, fold.num_rows, fold.num_columns)
        self.bias = None
        if self.layer.use_bias and not self._bias_is_inside:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.layer.filters,),
                initializer=self.layer.bias_initializer,
                regularizer=self.layer.bias_regularizer,
                constraint=self.layer.bias_constraint,
            )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        compute = self._products if self.is_product else self._convolved
        return self._activated(compute(inputs))

    @property
    def is_product(self) -> bool:
        """Whether it is a Dense layer on some of the places."""
        is_one_place = math.prod(self.layer.kernel_size) == 1
        return is_one_place and self._bias_is_inside and not self.is_transposed

    def _convolved(self, x: Tensor) -> Tensor:
        kernels, bias = self._kernels_and_bias()
        for kernel, axes in kernels:
            x = self._convolve(x, kernel, axes, self.layer.data_format)
        bias = bias if self._bias_is_inside else self.bias
        if bias is None:
            return x
        shape = [1] * (self.layer.rank + 2)
        shape[self._channel_axis] = -1
        return x + ops.reshape(bias, shape)

    def _kernels_and_bias(self) -> tuple[list[Kernel], Tensor | None]:
        """Kernels, one after another, with the axes that each is along; and a bias."""
        factors = self._factors()
        if factors is None:
            (fold,) = self.folds()
            matrix, bias = kernel_and_bias(
                self.dense, fold.num_rows, self.compute_dtype
            )
            return [(fold.kernel(matrix), range(self.layer.rank))], bias
        along = self.row_axes, self._column_axes
        folds = self.folds(factors[0].shape[1])
        kernels = [fold.kernel(x) for fold, x in zip(folds, factors, strict=True)]
        return list(zip(kernels, along, strict=True)), self.dense.bias

    def folds(self, r: int | None = None) -> list[Fold]:
        """How the matrix is a kernel, or factors of it of rank r are two kernels."""
        window, axes = self.layer.kernel_size, self.row_axes
        channels, filters = self._num_channels, self.layer.filters
        if r is None:
            return [Fold(window, channels, filters, axes)]
        before = self._along(axes, window, 1)
        after = self._along(self._column_axes, window, 1)
        return [Fold(before, channels, r, axes), Fold(after, r, filters, axes)]

    @property
    def has_two_kernels(self) -> bool:
        """Whether it computes with factors."""
        return not self.is_product and self._factors() is not None

    def _factors(self) -> tuple[Tensor, Tensor] | None:
        """Two factors of the matrix, if there are and they take fewer products."""
        if not isinstance(self.dense, StoredDense):
            return None
        factors = self.dense.storage.two_factors(self.compute_dtype)
        if factors is None:
            return None
        (n, r), (_, d) = (x.shape for x in factors)
        return factors if r * (n + d) < n * d else None

    def _convolve(
        self, x: Tensor, kernel: Tensor, axes: Sequence[int], data_format: str
    ) -> Tensor:
        """Convolve along some axes as the layer does, and with strides 1 along others.

        Args:
            x: Inputs.
            kernel: Kernel `(*window, channels, filters)`, with size 1 along the others.
            axes: The axes.
            data_format: That of the inputs.
        """
        layer = self.layer
        options = {
            "strides": self._along(axes, layer.strides, 1),
            "dilation_rate": self._along(axes, layer.dilation_rate, 1),
            "data_format": data_format,
        }
        if self.is_transposed:
            if layer.output_padding is not None:
                padding = self._along(axes, layer.output_padding, 0)
                options["output_padding"] = padding
            kernel = ops.swapaxes(kernel, -1, -2)
            return ops.conv_transpose(x, kernel, padding=layer.padding, **options)
        if layer.padding != "causal":
            return ops.conv(x, kernel, padding=layer.padding, **options)
        before = layer.dilation_rate[0] * (kernel.shape[0] - 1)
        width = [(0, 0)] * 3
        width[1 if data_format == "channels_last" else 2] = (before, 0)
        return ops.conv(ops.pad(x, width), kernel, padding="valid", **options)

    def _along(
        self, axes: Sequence[int], values: Sequence[int], other: int
    ) -> tuple[int, ...]:
        """Values of some axes, and another one for the others."""
        return tuple(v if i in axes else other for i, v in enumerate(values))

    def rows(self, name: str, inputs: Tensor) -> Tensor:
        x = self._channels_last(inputs)
        window = self._along(self.row_axes, self.layer.kernel_size, 1)
        if not self.is_transposed and math.prod(window) == 1:
            steps = self._along(self.row_axes, self.layer.strides, 1)
            return x[(slice(None), *(slice(None, None, step) for step in steps))]
        return self._patches(x, window)

    def _patches(self, x: Tensor, window: tuple[int, ...]) -> Tensor:
        """What the first convolution multiplies at each place, channels last in it."""
        num_channels, size = x.shape[-1], math.prod(window)
        kernel = ops.reshape(ops.eye(size, dtype=x.dtype), (*window, 1, size))
        x = ops.moveaxis(x, -1, 1)  # each channel is convolved for itself
        x = ops.reshape(x, (-1, *x.shape[2:], 1))
        x = self._convolve(x, kernel, self.row_axes, "channels_last")
        x = ops.reshape(x, (-1, num_channels, *x.shape[1:]))
        x = ops.moveaxis(x, 1, -1)  # (batch, ..., size, channels)
        return ops.reshape(x, (*x.shape[:-2], size * num_channels))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "row_axes": list(self.row_axes)}
