"""Recurrent layers: LSTM, GRU and SimpleRNN, with both kernels in Dense layers."""

from collections.abc import Sequence
from contextlib import ExitStack
from operator import attrgetter
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from keras_messi._keras_internals import attribute_set
from keras_messi.layers.unfolded.base import UnfoldedLayer
from keras_messi.layers.unfolded.kernels import kernel_and_bias
from keras_messi.layers.unfolded.stock import dense_for, unbuilt

# What layers around a recurrent one, such as Bidirectional, read and write on it.
_READ = (
    "cell",
    "go_backwards",
    "return_sequences",
    "return_state",
    "state_size",
    "stateful",
    "units",
    "use_cudnn",
    "zero_output_for_mask",
)


@keras.saving.register_keras_serializable(package="keras_messi")
class CompressedRecurrent(UnfoldedLayer):
    """A recurrent layer whose two kernels are those of Dense layers inside it.

    Both are multiplied out once in each call. Then the layer runs as Keras runs it, by
    the fast kernels of the backend where there are any: so it is smaller, and about as
    fast as the original.

    The gates stand side by side in the columns of both kernels, in the order of Keras.
    The bias is that of the Dense layers: of an LSTM or SimpleRNN, that of `kernel`; of
    a GRU with `reset_after`, each has its row of the bias.

    Args:
        kernel: Dense layer that multiplies the inputs, with linear activation.
        recurrent_kernel: Dense layer that multiplies the states.
        layer: An LSTM, GRU or SimpleRNN that says all else, by its config.
        **kwargs: What `keras.Layer` takes.

    Example:

    >>> import keras
    >>> from keras_messi.layers import CompressedRecurrent, MessiDense
    >>> layer = CompressedRecurrent(
    ...     MessiDense(16, num_clusters=1, rank=2),
    ...     MessiDense(16, num_clusters=1, rank=2, use_bias=False),
    ...     keras.layers.LSTM(4),
    ... )
    >>> layer(keras.ops.ones((2, 5, 8))).shape
    TensorShape([2, 4])
    """

    dense_names: ClassVar[tuple[str, ...]] = ("kernel", "recurrent_kernel")

    def __init__(
        self,
        kernel: keras.Layer,
        recurrent_kernel: keras.Layer,
        layer: keras.Layer,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kernel, self.recurrent_kernel = kernel, recurrent_kernel
        self.layer: Any = unbuilt(layer, dtype=self.dtype_policy)
        self.supports_masking = True

    @classmethod
    def obstacle(cls, layer: Any) -> str | None:
        return "it is stateful" if layer.stateful else None

    @classmethod
    def unfold(cls, layer: Any) -> Self:
        biases: list[Any] = [None, None]
        if layer.cell.bias is not None:
            rows = np.atleast_2d(ops.convert_to_numpy(layer.cell.bias))
            biases[: len(rows)] = rows
        kernel, recurrent_kernel = (
            dense_for(
                layer,
                ops.convert_to_numpy(getattr(layer.cell, name)),
                bias,
                name.removesuffix("_kernel"),
                f"{layer.name}_{name}",
            )
            for name, bias in zip(cls.dense_names, biases, strict=True)
        )
        unfolded = cls(
            kernel,
            recurrent_kernel,
            layer,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
        unfolded.build((None, None, layer.cell.kernel.shape[0]))
        return unfolded

    def build(self, input_shape: Sequence[int | None]) -> None:
        sizes = input_shape[-1], self.layer.units
        self._num_rows = dict(zip(self.dense_names, sizes, strict=True))
        for name, dense in self.dense_layers.items():
            if not dense.built:
                dense.build((None, self._num_rows[name]))
        # It is called with the kernels of the Dense layers, and must not make its own.
        self.layer.built = self.layer.cell.built = True
        self.built = True

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        return self._run(self.layer, sequences, initial_state, mask, training)

    def _run(self, layer: Any, sequences: Any, *arguments: Any) -> Any:
        """Call a layer of Keras, that without weights or its twin, with the kernels."""
        initial_state, mask, training = arguments
        parts = {
            name: kernel_and_bias(dense, self._num_rows[name], self.compute_dtype)
            for name, dense in self.dense_layers.items()
        }
        weights = {name: kernel for name, (kernel, _) in parts.items()}
        weights["bias"] = self._bias([bias for _, bias in parts.values()])
        with ExitStack() as stack:
            for name, value in weights.items():
                stack.enter_context(attribute_set(layer.cell, name, value))
            return layer.call(
                sequences, initial_state=initial_state, mask=mask, training=training
            )

    def _bias(self, biases: list[Any]) -> Any:
        """The bias of the cell, None if it has none."""
        if not self.layer.use_bias:
            return None
        return ops.stack(biases) if self._has_two_biases else biases[0]

    @property
    def _has_two_biases(self) -> bool:
        return isinstance(self.layer, keras.layers.GRU) and self.layer.reset_after

    def rows(
        self,
        name: str,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        if name == "kernel":
            return sequences
        # The state before each step. Of a GRU without `reset_after`, candidates get
        # what the reset gate lets through of it.
        layer = unbuilt(self.layer, return_sequences=True, return_state=False)
        layer.built = layer.cell.built = True
        states = self._run(layer, sequences, initial_state, mask, training)
        return ops.pad(states[:, :-1], ((0, 0), (1, 0), (0, 0)))

    def compute_mask(self, sequences: Any, mask: Any = None) -> Any:
        """The mask of the outputs, as of the layer of Keras."""
        return self.layer.compute_mask(sequences, mask)

    def compute_output_shape(
        self, sequences_shape: Any, initial_state_shape: Any = None
    ) -> Any:
        return self.layer.compute_output_shape(sequences_shape, initial_state_shape)

    def get_initial_state(self, batch_size: int) -> Any:
        """The state at the start, as of the layer of Keras."""
        return self.layer.get_initial_state(batch_size)

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(unbuilt(self.layer))
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return super().from_config({**config, "layer": layer})


def _of_layer(name: str) -> property:
    def write(self: CompressedRecurrent, value: Any) -> None:
        setattr(self.layer, name, value)

    return property(attrgetter(f"layer.{name}"), write)


for _name in _READ:
    setattr(CompressedRecurrent, _name, _of_layer(_name))
