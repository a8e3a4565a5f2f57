"""Turning the factors of a layer into codes of 8 or 4 bits and back, in place."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi._keras_internals import QuantizesWeights, replacing_weights
from keras_messi.layers._quantized import BITS, quantize_factors


class QuantizedFactors(QuantizesWeights, keras.Layer):
    """What a layer of factors does to store them in fewer bits.

    A subclass names its factors and creates all its weights, in few bits or not.
    """

    built: bool

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Store the factors in 8 or 4 bits a number, in place.

        Only weights are quantized; activations stay floating-point numbers. The factors
        are not trainable any more, until `dequantize`.

        Args:
            mode: `"int8"` or `"int4"`.
            type_check: What Keras passes to all layers; without effect.
            config: Config of Keras for that mode, which a model passes to all layers;
                what it says about activations and blocks is for stock layers.

        Raises:
            ValueError: The mode is another one, the layer is not built or is quantized,
                `config` has a quantizer for weights, or the factors are not finite.
        """
        mode = str(mode or getattr(config, "mode", None))
        check_mode("mode", mode, tuple(BITS))
        if getattr(config, "weight_quantizer", None) is not None:
            raise ValueError(
                "`config` must have no weight_quantizer for factored layers, which "
                f"have one scale a row. Received: config={config.get_config()}"
            )
        if not self.built or self.quantization:
            raise ValueError(
                f"`quantize` needs a layer that is built and not quantized. Received: "
                f"'{self.name}', built={self.built}, quantization={self.quantization!r}"
            )
        factors = self._floats()
        if not all(np.isfinite(factor).all() for factor in factors.values()):
            raise ValueError(
                f"The factors of layer '{self.name}' must be finite to be quantized. "
                "They hold NaN or infinite values."
            )
        self._exchange_factors(mode, self._in_few_bits(factors, mode))

    def _floats(self) -> dict[str, np.ndarray]:
        """What is to be quantized, by the names it is stored under."""
        return {name: _as_floats(x) for name, x in self._named_factors().items()}

    def _in_few_bits(
        self, factors: dict[str, np.ndarray], mode: str
    ) -> dict[str, np.ndarray]:
        """The same in 8 or 4 bits."""
        coordinates = [factors[f"coordinates_{c}"] for c in range(self.num_clusters)]
        bases = np.split(factors["bases"], np.cumsum(self.ranks)[:-1])
        return quantize_factors(coordinates, bases, mode)

    def dequantize(self) -> None:
        """Make the factors trainable floating-point numbers again, in place.

        Raises:
            ValueError: The layer is not quantized.
        """
        if self.quantization is None:
            raise ValueError(
                "`dequantize` needs a layer that is quantized. Received: "
                f"'{self.name}', quantization=None"
            )
        self._exchange_factors(None, self._in_all_bits(self.variable_dtype))

    def _in_all_bits(self, dtype: str) -> dict[str, Any]:
        """What is quantized as plain numbers."""
        coordinates = self._factors.multiplied_coordinates(dtype)
        store = {f"coordinates_{c}": u for c, u in enumerate(coordinates)}
        return {**store, "bases": self._factors.multiplied_bases(dtype)}

    def _exchange_factors(self, mode: str | None, factors: dict[str, Any]) -> None:
        """Create all weights anew, in the order of a new layer, and fill them."""
        store: dict[str, Any] = {}
        self.save_own_variables(store)
        for name in self._named_factors():
            del store[name]
        with replacing_weights(self):
            self.quantization = mode
            self._add_weights(sum(self.cluster_sizes))
        self.load_own_variables(
            {name: ops.convert_to_numpy(x) for name, x in {**store, **factors}.items()}
        )


def _as_floats(weight: Any) -> np.ndarray:
    """A weight in float32, or float64 if it has that."""
    array = ops.convert_to_numpy(weight)
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def check_mode(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a mode that factored layers don't have."""
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {list(allowed)} for factored layers. "
            f"Received: {name}={value!r}"
        )
