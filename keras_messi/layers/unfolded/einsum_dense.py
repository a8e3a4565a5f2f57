"""EinsumDense layers: any product of inputs and a kernel that is one of matrices."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import keras
import numpy as np
from keras import ops

from keras_messi.layers.unfolded.base import UnfoldedLayer
from keras_messi.layers.unfolded.stock import dense_for

# Stands for the axes that "..." does: the layers of Keras allow it at the start.
_ANY = "."


class Equation(NamedTuple):
    """The axes of inputs, kernel and outputs, a letter each."""

    inputs: str
    kernel: str
    outputs: str

    @classmethod
    def parse(cls, equation: str) -> Self:
        """From a form such as `"abc,cd->abd"`."""
        axes = equation.replace(" ", "").replace("...", _ANY)
        parts = re.fullmatch(r"([\w.]+),(\w+)->([\w.]+)", axes)
        if parts is None:
            raise ValueError(
                '`equation` must be of the form "inputs,kernel->outputs". Received: '
                f"equation={equation!r}"
            )
        return cls(*parts.groups())

    @property
    def summed(self) -> str:
        """Axes of the kernel over which products are summed up: the rows."""
        return "".join(x for x in self.kernel if x in self.inputs)

    @property
    def kept(self) -> str:
        """Axes of the kernel that are axes of the outputs: the columns."""
        return "".join(x for x in self.kernel if x not in self.inputs)

    @property
    def free(self) -> str:
        """Axes of the inputs that the kernel has not, in the order of the outputs."""
        return "".join(x for x in self.outputs if x not in self.kernel)

    def obstacle(self) -> str | None:
        """Why it is no product of two matrices, if it is none."""
        if any(len(set(axes)) < len(axes) for axes in self):
            return "an axis occurs twice"
        shared = set(self.summed) & set(self.outputs)
        if shared:
            return f"it multiplies block by block along {sorted(shared)}"
        if set(self.kept) - set(self.outputs):
            return "it sums over axes of the kernel alone"
        if set(self.inputs) - set(self.free + self.summed):
            return "it sums over axes of the inputs alone"
        return None if self.kept and self.summed else "no axis is summed over, or kept"


@keras.saving.register_keras_serializable(package="keras_messi")
class CompressedEinsumDense(UnfoldedLayer):
    """An EinsumDense layer whose kernel is that of a Dense layer inside it.

    The axes of the kernel that are summed over are the rows of the unfolding, in their
    order, and the others its columns. The outputs are those of
    `keras.layers.EinsumDense`, with the same equation.

    Args:
        dense: The Dense layer, such as a `MessiDense`, with linear activation.
        equation: What is computed, in the form of `keras.layers.EinsumDense`: a product
            of two matrices once axes are joined.
        kernel_shape: List of positive integers, the shape of the kernel in `equation`.
        activation: Activation of the outputs.
        **kwargs: What `keras.Layer` takes.

    Raises:
        ValueError: The equation is no product of two matrices, or goes with another
            kernel.

    Example:

    >>> import keras, keras_messi
    >>> layer = keras_messi.layers.CompressedEinsumDense(
    ...     keras_messi.layers.MessiDense(12, num_clusters=1, rank=2),
    ...     "abc,cde->abde", [8, 3, 4]
    ... )
    >>> layer(keras.ops.ones((2, 5, 8))).shape
    TensorShape([2, 5, 3, 4])
    """

    def __init__(
        self,
        dense: keras.Layer,
        equation: str,
        kernel_shape: Sequence[int],
        activation: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dense = dense
        self.equation = equation
        self.kernel_shape = [int(size) for size in kernel_shape]
        self.activation = keras.activations.get(activation)
        self._axes = Equation.parse(equation)
        problem = self._axes.obstacle()
        if problem is not None or len(self._axes.kernel) != len(self.kernel_shape):
            raise ValueError(
                "`equation` must be a product of two matrices, with as many axes of "
                f"the kernel as `kernel_shape`. Received: equation={equation!r}"
                f"{f' ({problem})' if problem else ''}, kernel_shape={kernel_shape}"
            )

    @classmethod
    def obstacle(cls, layer: Any) -> str | None:
        axes = Equation.parse(layer.equation)
        problem = axes.obstacle()
        if problem is not None:
            return f"{layer.equation} is no product of two matrices: {problem}"
        if set(layer.bias_axes or "") - set(axes.kept):
            return "its bias has an axis that its kernel has not"
        return None if all(layer.kernel.shape) else "its kernel has no numbers"

    @classmethod
    def unfold(cls, layer: Any) -> Self:
        axes = Equation.parse(layer.equation)
        kernel = ops.convert_to_numpy(layer.kernel)
        order = [axes.kernel.index(x) for x in axes.summed + axes.kept]
        rows = math.prod(kernel.shape[axis] for axis in order[: len(axes.summed)])
        matrix = kernel.transpose(order).reshape(rows, -1)
        bias = None
        if layer.bias is not None:
            sizes = dict(zip(axes.kernel, kernel.shape, strict=True))
            own = ops.convert_to_numpy(layer.bias)
            bias = _bias_of_columns(own, layer.bias_axes, axes, sizes)
        unfolded = cls(
            dense_for(layer, matrix, bias),
            layer.equation,
            kernel.shape,
            layer.activation,
            activity_regularizer=layer.activity_regularizer,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
        unfolded.build_from_config(layer.get_build_config())
        return unfolded

    def build(self, input_shape: Sequence[int | None]) -> None:
        letters = self._letters(len(input_shape))
        sizes = dict(zip(letters.kernel, self.kernel_shape, strict=True))
        for axis, size in zip(letters.inputs, input_shape, strict=True):
            if axis in sizes and size != sizes[axis]:
                raise ValueError(
                    f"Axis '{axis}' of the inputs must have size {sizes[axis]}. "
                    f"Received: input_shape={input_shape}"
                )
        if not self.dense.built:
            self.dense.build((None, math.prod(sizes[x] for x in letters.summed)))
        self.built = True

    def _letters(self, num_axes: int) -> Equation:
        """The equation for inputs of so many axes, all with a letter of their own."""
        missing = num_axes - len(self._axes.inputs.replace(_ANY, ""))
        others = "".join(chr(ord("0") + i) for i in range(missing))
        return Equation(*(axes.replace(_ANY, others) for axes in self._axes))

    def rows(self, name: str, inputs: Any, training: bool | None = None) -> Any:
        letters = self._letters(len(inputs.shape))
        order = [letters.inputs.index(x) for x in letters.free + letters.summed]
        x = _transposed(inputs, order)
        if len(letters.summed) == 1:
            return x
        sizes = dict(zip(letters.kernel, self.kernel_shape, strict=True))
        n = math.prod(sizes[axis] for axis in letters.summed)
        return ops.reshape(x, (*_sizes_of(x, len(letters.free)), n))

    def call(self, inputs: Any) -> Any:
        letters = self._letters(len(inputs.shape))
        rows = self.rows("dense", inputs)
        x = ops.cast(self.dense(rows), self.compute_dtype)  # (free axes, units)
        if len(letters.kept) > 1:
            sizes = dict(zip(letters.kernel, self.kernel_shape, strict=True))
            kept = (sizes[axis] for axis in letters.kept)
            # Of the rows: tf2onnx takes reshapes after a product for one too many.
            x = ops.reshape(x, (*_sizes_of(rows, len(letters.free)), *kept))
        found = letters.free + letters.kept
        x = _transposed(x, [found.index(axis) for axis in letters.outputs])
        return x if self.activation is None else self.activation(x)

    def compute_output_shape(
        self, input_shape: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        letters = self._letters(len(input_shape))
        sizes: dict[str, int | None] = {
            **dict(zip(letters.inputs, input_shape, strict=True)),
            **dict(zip(letters.kernel, self.kernel_shape, strict=True)),
        }
        return tuple(sizes[axis] for axis in letters.outputs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "equation": self.equation,
            "kernel_shape": self.kernel_shape,
            "activation": keras.activations.serialize(self.activation),
        }


def _transposed(x: Any, order: list[int]) -> Any:
    return x if order == sorted(order) else ops.transpose(x, order)


def _sizes_of(x: Any, num_axes: int) -> list[Any]:
    """Sizes of the first axes for a reshape; -1 if only one is not known beforehand."""
    sizes = list(x.shape[:num_axes])
    if sizes.count(None) > 1:
        return list(ops.shape(x)[:num_axes])
    return [-1 if size is None else size for size in sizes]


def _bias_of_columns(
    bias: np.ndarray, bias_axes: str, axes: Equation, sizes: dict[str, int]
) -> np.ndarray:
    """The bias for each column of the unfolding, along the axes that it has or not."""
    own = "".join(x for x in axes.outputs if x in bias_axes)
    bias = bias.reshape([sizes[axis] for axis in own])
    bias = bias.transpose([own.index(axis) for axis in axes.kept if axis in own])
    bias = bias.reshape([sizes[x] if x in own else 1 for x in axes.kept])
    return np.broadcast_to(bias, [sizes[axis] for axis in axes.kept]).reshape(-1)
