"""What all layers share that use a stored matrix, whatever for and however stored."""

import inspect
from collections.abc import Container
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_messi._keras_internals import QuantizesWeights, replacing_weights
from keras_messi.layers._checks import check_choice, check_positive
from keras_messi.layers.numbers.formats import as_floats
from keras_messi.layers.numbers.integers import BITS
from keras_messi.layers.storage.base import Storage
from keras_messi.layers.storage.few_bits.levels import InLevels
from keras_messi.layers.storage.lora import Lora


class StoredMatrix(QuantizesWeights, keras.Layer):
    """A layer with a matrix that it holds in a `Storage`.

    A subclass for one use, such as Dense, implements `_add_weights` and calls methods
    of the storage. A subclass of that sets `storage_class`. The arguments of the
    storage are arguments of the layer, and its attributes are read on the layer.

    Args:
        lora_rank: If given, LoRA is enabled with that rank once the layer is built. See
            `enable_lora`.
        lora_alpha: What `enable_lora` takes, by default `lora_rank`.
    """

    storage_class: ClassVar[type[Storage]]
    storage: Storage
    built: bool

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        kind = vars(cls).get("storage_class")
        for name in (*kind.arguments(), *kind.weights) if kind else ():
            doc = inspect.getdoc(getattr(kind, name, None))
            setattr(cls, name, property(attrgetter(f"storage.plain.{name}"), doc=doc))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Attributes of the storage."""

    def __init__(
        self,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        **kwargs: Any,
    ) -> None:
        storage: Any = self._pop_storage(kwargs)
        super().__init__(**kwargs)
        if lora_rank is not None:
            storage = Lora(storage, lora_rank, lora_alpha)
        self.storage = storage

    def _pop_storage(self, options: dict[str, Any]) -> Storage:
        """A storage of those options that are for it, which are removed."""
        return self.storage_class.pop_from(options)

    def add_weight(self, *args: Any, dtype: Any = None, **kwargs: Any) -> Any:
        # In mixed precision, Keras has all floats of a layer in one type.
        if dtype == "float16" and self.variable_dtype != self.compute_dtype:
            dtype = self.variable_dtype
        return super().add_weight(*args, dtype=dtype, **kwargs)

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
        are not trainable any more, until `dequantize`. LoRA weights stay as they are.

        Args:
            mode: `"int8"` or `"int4"`.
            type_check: What Keras passes to all layers; without effect.
            config: Config of Keras for that mode, which a model passes to all layers;
                what it says about activations and blocks is for stock layers.

        Raises:
            ValueError: The mode is another one, the layer is not built or is quantized,
                `config` has a quantizer for weights, or the factors are not finite.
        """
        storage = self.storage.plain
        if not storage.can_quantize:
            super().quantize(mode, type_check, config)  # which says so
            return
        mode = str(mode or getattr(config, "mode", None))
        check_choice("mode", mode, BITS)
        if getattr(config, "weight_quantizer", None) is not None:
            raise ValueError(
                "`config` must have no weight_quantizer for factored layers, which "
                f"have one scale a row. Received: config={config.get_config()}"
            )
        if not self.built or storage.quantization:
            raise ValueError(
                "`quantize` needs a layer that is built and not quantized. Received: "
                f"'{self.name}', built={self.built}, "
                f"quantization={storage.quantization!r}"
            )
        numbers = {name: as_floats(x) for name, x in storage.numbers().items()}
        if not all(np.isfinite(array).all() for array in numbers.values()):
            raise ValueError(
                f"The factors of layer '{self.name}' must be finite to be quantized. "
                "They hold NaN or infinite values."
            )
        self._exchange_numbers(mode, storage.quantized(numbers, mode))

    def dequantize(self) -> None:
        """Make the factors trainable floating-point numbers again, in place.

        With LoRA they stay frozen.

        Raises:
            ValueError: The layer is not quantized.
            NotImplementedError: The layer has no factors that can be.
        """
        if self.storage.plain.quantization and not self.storage.plain.can_quantize:
            raise NotImplementedError(
                f"Layer '{self.name}' of class {type(self).__name__} has no factors "
                "that `dequantize` could make trainable."
            )
        if self.storage.plain.quantization is None:
            raise ValueError(
                "`dequantize` needs a layer that is quantized. Received: "
                f"'{self.name}', quantization=None"
            )
        numbers = self.storage.plain.dequantized(self.variable_dtype)
        self._exchange_numbers(None, numbers)

    def _exchange_numbers(self, mode: str | None, numbers: dict[str, Any]) -> None:
        store = self._stored_but(self.storage.plain.numbers())
        self.storage.plain.quantization = mode
        self._replace_storage(self.storage, store | numbers)

    @property
    def levels_trained(self) -> bool:
        """Whether numbers are trained that are read as levels. See `train_levels`."""
        storage = self.storage.plain
        return isinstance(storage, InLevels) and storage.is_trained

    def train_levels(self) -> None:
        """Make the levels of a rounded layer trainable, in place.

        Numbers take the place of codes, and of the integers of bases. They are trained,
        and the layer computes with the levels next to them, as it will when it is
        loaded from a file. Gradients go straight through. Scales stay as they are. A
        model that is compiled must be compiled again.

        Codes are what is saved, as before: numbers between levels last as long as the
        layer, or until `fix_levels`.

        Raises:
            ValueError: The layer is not built, has no levels, or has LoRA weights; or
                its levels are trained already.

        Reference:
            - [Bengio et al., 2013](https://arxiv.org/abs/1308.3432), straight-through
              gradients.
        """
        storage = self.storage.plain
        has_codes = isinstance(storage, InLevels) and not storage.is_trained
        if not (self.built and has_codes) or self.lora_enabled:
            raise ValueError(
                "`train_levels` needs a rounded layer that is built, with codes and "
                f"without LoRA weights. Received: '{self.name}' of class "
                f"{type(self).__name__}, built={self.built}, "
                f"lora_enabled={self.lora_enabled}, "
                f"levels_trained={self.levels_trained}"
            )
        store = self._stored_but([])
        storage.hold_numbers()
        self._replace_storage(self.storage, store)

    def fix_levels(self) -> None:
        """Put codes in the place of trained numbers again, in place.

        The layer computes the same.

        Raises:
            ValueError: The levels of the layer are not trained.
        """
        storage = self.storage.plain
        if not self.levels_trained:
            raise ValueError(
                "`fix_levels` needs a layer whose levels are trained. Received: "
                f"'{self.name}' of class {type(self).__name__}"
            )
        store = self._stored_but([])
        storage.hold_codes()
        self._replace_storage(self.storage, store)

    @property
    def lora_enabled(self) -> bool:
        """Whether LoRA weights are trained, and not the stored matrix."""
        return isinstance(self.storage, Lora) and self.built

    @property
    def lora_rank(self) -> int | None:
        """Rank of the LoRA weights, None without LoRA."""
        return getattr(self.storage, "lora_rank", None)

    @property
    def lora_alpha(self) -> float | None:
        """The LoRA weights count `lora_alpha / lora_rank` times, None without LoRA."""
        return getattr(self.storage, "lora_alpha", None)

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """Freeze the stored matrix and train a product of two small ones beside it.

        LoRA (low-rank adaptation): from here on the layer computes with
        `matrix + lora_alpha / rank * a @ b`, in look-ups and tied logits as well.
        Factors, codebooks, codes and integers stay as they are; `a`, of shape
        `(rows, rank)`, `b`, of shape `(rank, columns)`, and the bias are trained. A
        model that is compiled must be compiled again.

        `model.save()` keeps `a` and `b` beside the stored matrix: the file loads with
        LoRA enabled, and training goes on where it stopped. `keras_messi.save_model`
        and `save_pretrained` merge them into factors in floating-point numbers, as
        `merge_lora` does. Integers and codes can't hold them exactly and keep them.

        Args:
            rank: Positive integer, rank of the product.
            lora_alpha: Positive number, by default `rank`.
            a_initializer: Initializer for `a`.
            b_initializer: Initializer for `b`. With zeros, the layer computes at first
                what it did.

        Raises:
            ValueError: The layer is not built, LoRA is enabled already, or an argument
                is not as above.
        """
        check_positive("rank", rank)
        if not self.built or self.lora_enabled:
            raise ValueError(
                "`enable_lora` needs a layer that is built and has no LoRA weights. "
                f"Received: '{self.name}', built={self.built}, "
                f"lora_enabled={self.lora_enabled}"
            )
        lora = Lora(self.storage, rank, lora_alpha, a_initializer, b_initializer)
        self._replace_storage(lora, self._stored_but([]))

    @property
    def can_merge_lora(self) -> bool:
        """Whether there are LoRA weights, and factors that can hold them exactly."""
        return self.lora_enabled and self.storage.plain.can_merge

    def merge_lora(self) -> None:
        """Add the LoRA weights to the factors, in place, which are trained again.

        The layer computes the same, without LoRA. Exactly that takes a higher rank: the
        coordinates of each cluster get the columns of `a`, and its basis the rows of
        `lora_alpha / lora_rank * b`. So its rank grows by `lora_rank`, up to the width
        of the matrix.

        Raises:
            ValueError: LoRA is not enabled, or the layer stores integers or codes.
        """
        if not self.can_merge_lora:
            raise ValueError(
                "`merge_lora` needs a layer with LoRA weights and with factors that "
                f"are floating-point numbers. Received: '{self.name}' of class "
                f"{type(self).__name__}, lora_enabled={self.lora_enabled}, "
                f"quantization={self.storage.plain.quantization!r}"
            )
        lora: Any = self.storage
        store = self._stored_but(lora.numbers())
        storage, numbers = lora.merged()
        self._replace_storage(storage, store | numbers)

    def _stored_but(self, names: Container[str]) -> dict[str, Any]:
        """What the layer stores, without some names."""
        store: dict[str, Any] = {}
        self.save_own_variables(store)
        return {name: x for name, x in store.items() if name not in names}

    def _replace_storage(self, storage: Storage, store: dict[str, Any]) -> None:
        """Create all weights anew, in the order of a new layer, and fill them.

        Numbers that the store does not have stay as they are initialized.
        """
        n, _ = self.storage.shape
        with replacing_weights(self):
            self.storage = storage
            self._add_weights(n)
        store = {**storage.numbers(), **store}
        self.load_own_variables({k: ops.convert_to_numpy(x) for k, x in store.items()})

    def save_own_variables(self, store: Any) -> None:
        self.storage.save(store, self.name)

    def load_own_variables(self, store: Any) -> None:
        names = list(store.keys())
        if "lora_a" in names and self.storage is self.storage.plain:
            raise ValueError(
                f"Layer '{self.name}' must have LoRA weights: call `enable_lora` with "
                f"the rank of those that are stored first. The stored ones are {names}."
            )
        self.storage.load(store, self.name)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.storage.get_config()}
