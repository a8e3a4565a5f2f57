"""What the layers share that stand for an Embedding layer: all but the table."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_messi._keras_internals import set_mask
from keras_messi.layers._checks import check_positive


class EmbeddingOutputs(keras.Layer):
    """Looks rows of a table up, or in reverse multiplies by the transposed table.

    Goes before a class that holds the table as a matrix of its own form.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        mask_zero: bool = False,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive("input_dim", input_dim)
        check_positive("output_dim", output_dim)
        self.input_dim = int(input_dim)
        self.output_dim = int(output_dim)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.reverse_dtype = reverse_dtype
        self.logit_soft_cap = logit_soft_cap
        # Rows are gathered first and cast after: autocast would cast the whole table.
        self.autocast = False

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        if self.built:  # layers around an embedding build it, whether it is or not
            return
        self._add_weights(self.input_dim)
        self.built: bool = True

    def _add_weights(self, n: int) -> None:
        """Create all weights of the layer, for a table of n rows."""
        raise NotImplementedError

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        if reverse:
            return self._logits(inputs)
        tokens = inputs
        if keras.backend.standardize_dtype(inputs.dtype) not in ("int32", "int64"):
            tokens = ops.cast(inputs, "int32")
        rows = self._look_up(tokens)
        if self.mask_zero and not _are_integers(inputs):
            set_mask(rows, ops.not_equal(inputs, 0))
        return rows  # (..., output_dim)

    def _look_up(self, tokens: Any) -> Any:
        """Rows of the table: (..., output_dim)."""
        raise NotImplementedError

    def _logits(self, hidden: Any) -> Any:
        """Hidden states times the transposed table."""
        dtype = self._logits_dtype
        states = ops.cast(ops.reshape(hidden, (-1, self.output_dim)), dtype)
        x = self._products(states)
        x = ops.reshape(x, (*ops.shape(hidden)[:-1], self.input_dim))
        if self.logit_soft_cap is not None:
            x = ops.tanh(x / self.logit_soft_cap) * self.logit_soft_cap
        return x

    def _products(self, states: Any) -> Any:
        """Rows of numbers times the transposed table: (rows, input_dim)."""
        raise NotImplementedError

    @property
    def _logits_dtype(self) -> str:
        return self.reverse_dtype or self.compute_dtype

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        # Floats may be hidden states of a call in reverse: call() marks other floats.
        if not self.mask_zero or not _are_integers(inputs):
            return None
        return ops.not_equal(inputs, 0)

    def compute_output_shape(
        self, input_shape: Sequence[int | None], reverse: bool = False
    ) -> tuple[int | None, ...]:
        if reverse:
            return (*input_shape[:-1], self.input_dim)
        return (*input_shape, self.output_dim)

    def compute_output_spec(self, inputs: Any, reverse: bool = False) -> Any:
        shape = self.compute_output_shape(inputs.shape, reverse)
        dtype = self._logits_dtype if reverse else self.compute_dtype
        return keras.KerasTensor(shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "mask_zero": self.mask_zero,
            "reverse_dtype": self.reverse_dtype,
            "logit_soft_cap": self.logit_soft_cap,
        }


def _are_integers(inputs: Any) -> bool:
    return "int" in keras.backend.standardize_dtype(inputs.dtype)


def nan_out_of_range(rows: Any, tokens: Any, input_dim: int) -> Any:
    """Rows looked up by codes, with NaN for ids out of range if on JAX.

    JAX raises no error for those: its Embedding returns NaN.
    """
    if keras.backend.backend() != "jax":
        return rows
    inside = (tokens >= -input_dim) & (tokens < input_dim)
    return ops.where(ops.expand_dims(inside, -1), rows, float("nan"))
