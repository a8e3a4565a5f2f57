"""A layer around another one, whose weight it replaces in training, block by block."""

import inspect
from collections.abc import Sequence
from numbers import Real
from typing import Any

import keras
from keras import ops

from keras_messi.layers._checks import check_positive, divisors

Tensor = Any


class BlockNoise(keras.layers.Wrapper):
    """Noise on random blocks of the weight of a Dense or Embedding layer.

    In training, each call draws blocks and computes with other numbers in their place.
    The weight itself stays as it is: what is replaced is the value that the layer
    inside reads. Gradients go straight through, as if nothing had been replaced.
    Subclasses say by what.
    """

    # The obstacle of the layer inside, which must not be exchanged on its own.
    keeps_layers = "its noise must be removed first"

    def __init__(
        self,
        layer: keras.Layer,
        rate: float = 0.1,
        block_size: int = 8,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        _check_type(layer)
        _check_rate(rate)
        check_positive("block_size", block_size)
        kwargs.setdefault("dtype", layer.dtype_policy)
        kwargs.setdefault("name", layer.name)
        # The layer inside only computes; this one does what Keras does around that.
        kwargs["activity_regularizer"] = layer.activity_regularizer
        super().__init__(layer, autocast=layer.autocast, **kwargs)
        self.rate = float(rate)
        self.block_size = int(block_size)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = layer.supports_masking
        self._passes_training = "training" in inspect.signature(layer.call).parameters

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        if self.built:  # layers around an embedding build it, whether it is or not
            return
        super().build(input_shape)
        self.input_spec = self.layer.input_spec
        self._check_weight()
        self._add_weights()
        self.built: bool = True

    def _add_weights(self) -> None:
        """Add what a subclass needs besides the layer inside."""

    def _check_weight(self) -> None:
        name = self.layer.name
        if self.layer.quantization_mode or self.layer.lora_enabled:
            raise ValueError(
                "`layer` must not be quantized and have no LoRA weights. "
                f"Received: layer '{name}'"
            )
        size = int(self._weight.shape[self._axis])
        if size % self.block_size:
            raise ValueError(
                f"`block_size` must be a divisor of {size}, the length of the "
                f"weight of layer '{name}' along its blocks: one of {divisors(size)}. "
                f"Received: block_size={self.block_size}"
            )

    def call(self, inputs: Any, training: bool | None = None, **options: Any) -> Any:
        if self._passes_training:
            options["training"] = training
        if not training:
            return self.layer.call(inputs, **options)
        # In a scope inside another one, as in JAX, all variables need their values.
        values = [(variable, variable) for variable in self.layer.variables]
        noisy = self.noisy_weight()
        with keras.StatelessScope([*values, (self._weight, noisy)]):
            return self.layer.call(inputs, **options)

    def noisy_weight(self) -> Tensor:
        """The weight with blocks drawn anew, and the gradient of the weight itself."""
        weight = ops.convert_to_tensor(self._weight)
        rows, blocks, size, units = self._cut
        chances = keras.random.uniform(
            (rows, blocks, 1, units), dtype="float32", seed=self.seed_generator
        )
        cut = ops.reshape(ops.stop_gradient(weight), self._cut)
        replacement = ops.cast(self._replacement(), weight.dtype)
        noisy = ops.where(chances < self.rate, replacement, cut)
        # Exactly zero, this has the gradient of the weight.
        passage = weight - ops.stop_gradient(weight)
        return ops.stop_gradient(ops.reshape(noisy, weight.shape)) + passage

    def _replacement(self) -> Tensor:
        """Values for the replaced blocks, of a shape that broadcasts to `_cut`."""
        raise NotImplementedError

    @property
    def _weight(self) -> Any:
        is_dense = isinstance(self.layer, keras.layers.Dense)
        return self.layer.kernel if is_dense else self.layer.embeddings

    @property
    def _axis(self) -> int:
        """Axis of the weight that blocks run along."""
        return 0 if isinstance(self.layer, keras.layers.Dense) else 1

    @property
    def _cut(self) -> tuple[int, int, int, int]:
        """Shape of the weight in blocks: rows, blocks, numbers of a block, units."""
        n, d = map(int, self._weight.shape)
        if self._axis == 0:
            return 1, n // self.block_size, self.block_size, d
        return n, d // self.block_size, self.block_size, 1

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, *args: Any, **options: Any) -> Any:
        return self.layer.compute_output_shape(*args, **options)

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, **options: Any
    ) -> Any:
        return self.layer.compute_output_spec(inputs, **options)

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "rate": self.rate,
            "block_size": self.block_size,
            "seed": self.seed,
        }
        config.pop("activity_regularizer", None)  # that of the layer inside
        return config


def _check_type(layer: Any) -> None:
    if not isinstance(layer, keras.layers.Dense | keras.layers.Embedding):
        raise ValueError(
            "`layer` must be a Dense or Embedding layer of Keras. "
            f"Received: layer={layer!r}"
        )


def _check_rate(rate: Any) -> None:
    is_number = isinstance(rate, Real) and not isinstance(rate, bool)
    if not (is_number and 0 <= float(rate) < 1):
        raise ValueError(
            "`rate` is the chance of a block to be replaced and must be at least 0 "
            f"and less than 1. Received: rate={rate!r}"
        )
