"""What the layers share that stand for a Dense layer: all but the kernel."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_messi.layers._checks import check_positive


class DenseOutputs(keras.Layer):
    """Multiplies by a kernel, adds a bias and applies an activation.

    Goes before a class that holds the kernel as a matrix of its own form.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        bias_initializer: Any = "zeros",
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive("units", units)
        self.units = int(units)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.input_spec = keras.InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        input_dim = input_shape[-1]
        if input_dim is None:
            raise ValueError(
                "The last axis of the inputs must have a fixed size. "
                f"Received: input_shape={input_shape}"
            )
        self._add_weights(input_dim)
        self.input_spec = keras.InputSpec(min_ndim=2, axes={-1: input_dim})
        self.built = True

    def _add_weights(self, n: int) -> None:
        """Create all weights of the layer, for a kernel of n rows."""
        raise NotImplementedError

    def _add_bias(self) -> None:
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs: Any) -> Any:
        x = self._products(inputs)
        if self.bias is not None:
            x = ops.add(x, self.bias)  # (..., units)
        if self.activation is not None:
            x = self.activation(x)
        return x

    def _products(self, inputs: Any) -> Any:
        """Inputs times the kernel: (..., units)."""
        raise NotImplementedError

    @property
    def num_parameters(self) -> int:
        """Numbers in the weights, in however few bits; no scales and no integers."""
        return super().num_parameters + (self.units if self.use_bias else 0)

    def compute_output_shape(
        self, input_shape: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.bias is not None:
            store["bias"] = self.bias

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        if self.bias is not None:
            self.bias.assign(store["bias"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }
