"""What all layers share that use a stored matrix, whatever for and however stored."""

import inspect
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_messi._keras_internals import QuantizesWeights, replacing_weights
from keras_messi.layers._checks import check_choice
from keras_messi.layers.numbers.integers import BITS
from keras_messi.layers.storage.base import Storage


class StoredMatrix(QuantizesWeights, keras.Layer):
    """A layer with a matrix that it holds in a `Storage`.

    A subclass for one use, such as Dense, implements `_add_weights` and calls methods
    of the storage. A subclass of that sets `storage_class`. The arguments of the
    storage are arguments of the layer, and its attributes are read on the layer.
    """

    storage_class: ClassVar[type[Storage]]
    storage: Storage
    built: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        kind = vars(cls).get("storage_class")
        for name in (*kind.arguments(), *kind.weights) if kind else ():
            doc = inspect.getdoc(getattr(kind, name, None))
            setattr(cls, name, property(attrgetter(f"storage.{name}"), doc=doc))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Attributes of the storage."""

    def __init__(self, **kwargs: Any) -> None:
        storage = self.storage_class.pop_from(kwargs)
        super().__init__(**kwargs)
        self.storage = storage

    def _add_weights(self, n: int) -> None:
        """Create all weights of the layer, for a matrix of n rows."""
        raise NotImplementedError

    @property
    def num_parameters(self) -> int:
        """Numbers in the weights, in however few bits; no scales, ids and codes."""
        return self.storage.num_parameters

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
        if not self.storage.can_quantize:
            super().quantize(mode, type_check, config)  # which says so
            return
        mode = str(mode or getattr(config, "mode", None))
        check_choice("mode", mode, BITS)
        if getattr(config, "weight_quantizer", None) is not None:
            raise ValueError(
                "`config` must have no weight_quantizer for factored layers, which "
                f"have one scale a row. Received: config={config.get_config()}"
            )
        if not self.built or self.storage.quantization:
            raise ValueError(
                "`quantize` needs a layer that is built and not quantized. Received: "
                f"'{self.name}', built={self.built}, "
                f"quantization={self.storage.quantization!r}"
            )
        numbers = {name: _as_floats(x) for name, x in self.storage.numbers().items()}
        if not all(np.isfinite(array).all() for array in numbers.values()):
            raise ValueError(
                f"The factors of layer '{self.name}' must be finite to be quantized. "
                "They hold NaN or infinite values."
            )
        self._exchange_numbers(mode, self.storage.quantized(numbers, mode))

    def dequantize(self) -> None:
        """Make the factors trainable floating-point numbers again, in place.

        Raises:
            ValueError: The layer is not quantized.
        """
        if self.storage.quantization is None:
            raise ValueError(
                "`dequantize` needs a layer that is quantized. Received: "
                f"'{self.name}', quantization=None"
            )
        numbers = self.storage.dequantized(self.variable_dtype)
        self._exchange_numbers(None, numbers)

    def _exchange_numbers(self, mode: str | None, numbers: dict[str, Any]) -> None:
        """Create all weights anew, in the order of a new layer, and fill them."""
        store: dict[str, Any] = {}
        self.save_own_variables(store)
        for name in self.storage.numbers():
            del store[name]
        with replacing_weights(self):
            self.storage.quantization = mode
            self._add_weights(self.storage.shape[0])
        store |= numbers
        self.load_own_variables({k: ops.convert_to_numpy(x) for k, x in store.items()})

    def save_own_variables(self, store: Any) -> None:
        self.storage.save(store, self.name)

    def load_own_variables(self, store: Any) -> None:
        self.storage.load(store, self.name)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.storage.get_config()}


def _as_floats(weight: Any) -> np.ndarray:
    """A weight in float32, or float64 if it has that."""
    array = ops.convert_to_numpy(weight)
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)
