"""A stored matrix that is frozen, plus a trained product of two small ones (LoRA)."""

from numbers import Real
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers._checks import check_positive
from keras_messi.layers.numbers.formats import AddWeight, Tensor
from keras_messi.layers.storage.base import Storage


class Lora(Storage):
    """The matrix `A + lora_alpha / lora_rank * a @ b`, of which a and b are trained.

    A is in a storage of its own, none of whose weights is trained. It may hold
    integers or codes. a and b, of shapes `(n, lora_rank)` and `(lora_rank, d)`, are
    float32 whatever the dtype of the layer, as in Keras.
    """

    def __init__(
        self,
        frozen: Storage,
        lora_rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        check_positive("lora_rank", lora_rank)
        if lora_alpha is None:
            lora_alpha = lora_rank
        _check_alpha(lora_alpha)
        self._frozen = frozen
        self.lora_rank = int(lora_rank)
        self.lora_alpha = float(lora_alpha)
        self.a_initializer = keras.initializers.get(a_initializer)
        self.b_initializer = keras.initializers.get(b_initializer)

    @property
    def plain(self) -> Any:
        return self._frozen.plain

    def get_config(self) -> dict[str, Any]:
        config = {"lora_rank": self.lora_rank, "lora_alpha": self.lora_alpha}
        return {**self._frozen.get_config(), **config}

    def build(
        self, add_weight: AddWeight, shape: tuple[int, int], by_rows: bool
    ) -> None:
        def add_frozen(**options: Any) -> keras.Variable:
            return add_weight(**{**options, "trainable": False})

        self.shape = shape
        self._frozen.build(add_frozen, shape, by_rows)
        matrix = "embeddings" if by_rows else "kernel"
        self.a = add_weight(
            name=f"lora_{matrix}_a",
            shape=(shape[0], self.lora_rank),
            initializer=self.a_initializer,
            dtype="float32",
            regularizer=self._frozen.regularizer,
        )
        self.b = add_weight(
            name=f"lora_{matrix}_b",
            shape=(self.lora_rank, shape[1]),
            initializer=self.b_initializer,
            dtype="float32",
            regularizer=self._frozen.regularizer,
        )

    def multiply(self, x: Tensor, dtype: str) -> Tensor:
        update = self._times_b(ops.matmul(x, ops.cast(self.a, dtype)), dtype)
        return self._frozen.multiply(x, dtype) + update

    def multiply_transposed(self, x: Tensor, dtype: str) -> Tensor:
        x_b = ops.matmul(x, ops.transpose(self._scaled_b(dtype)))
        update = ops.matmul(x_b, ops.transpose(ops.cast(self.a, dtype)))
        return self._frozen.multiply_transposed(x, dtype) + update

    def rows(self, ids: Tensor, dtype: str, static: bool = False) -> Tensor:
        update = self._times_b(ops.take(self.a, ids, axis=0), dtype)
        return self._frozen.rows(ids, dtype, static) + update

    def matrix(self, dtype: str) -> Tensor:
        return self._frozen.matrix(dtype) + self._times_b(self.a, dtype)

    def two_factors(self, dtype: str) -> tuple[Tensor, Tensor] | None:
        frozen = self._frozen.two_factors(dtype)
        if frozen is None:
            return None
        left, right = frozen
        return (
            ops.concatenate([left, ops.cast(self.a, dtype)], axis=1),
            ops.concatenate([right, self._scaled_b(dtype)], axis=0),
        )

    def _times_b(self, x: Tensor, dtype: str) -> Tensor:
        return ops.matmul(ops.cast(x, dtype), self._scaled_b(dtype))

    def _scaled_b(self, dtype: str) -> Tensor:
        return ops.cast(self.b, dtype) * (self.lora_alpha / self.lora_rank)

    @property
    def num_parameters(self) -> int:
        return self._frozen.num_parameters + self.lora_rank * sum(self.shape)

    def numbers(self) -> dict[str, keras.Variable]:
        return {**self._frozen.numbers(), "lora_a": self.a, "lora_b": self.b}

    def save(self, store: Any, owner: str) -> None:
        self._frozen.save(store, owner)
        store["lora_a"], store["lora_b"] = self.a, self.b

    def load(self, store: Any, owner: str) -> None:
        self._frozen.load(store, owner)
        if "lora_a" in list(store.keys()):
            self.a.assign(store["lora_a"])
            self.b.assign(store["lora_b"])
        else:  # the matrix that was stored, and a gradient for b
            self.b.assign(ops.zeros(self.b.shape))

    def merged(self) -> tuple[Storage, dict[str, np.ndarray]]:
        """A storage of the sum, not built, and its numbers."""
        a = ops.convert_to_numpy(self.a)
        return self._frozen.plus(a, ops.convert_to_numpy(self._scaled_b("float32")))


def _check_alpha(value: Any) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and 0 < float(value) < float("inf")):
        raise ValueError(
            f"`lora_alpha` must be a positive number. Received: lora_alpha={value!r}"
        )
