"""The transpose of a matrix that another storage holds."""

from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_messi.layers.numbers.formats import AddWeight, Tensor
from keras_messi.layers.storage.base import Storage
from keras_messi.layers.storage.lookup import nan_out_of_range


class Transposed(Storage):
    """A matrix whose transpose is in a storage of its own, `plain`.

    So columns of A are clustered where that storage clusters rows. Products of one are
    products of the other the other way round.
    """

    def __init__(self, plain: Storage) -> None:
        self._plain = plain

    @property
    def plain(self) -> Any:
        return self._plain

    def get_config(self) -> dict[str, Any]:
        return {**self._plain.get_config(), "side": "outputs"}

    def build(
        self, add_weight: AddWeight, shape: tuple[int, int], by_rows: bool
    ) -> None:
        self.shape = shape
        self._plain.build(add_weight, shape[::-1], not by_rows)

    def multiply(self, x: Tensor, dtype: str) -> Tensor:
        n, d = self.shape
        products = self._plain.multiply_transposed(ops.reshape(x, (-1, n)), dtype)
        return ops.reshape(products, (*ops.shape(x)[:-1], d))

    def multiply_transposed(self, x: Tensor, dtype: str) -> Tensor:
        return self._plain.multiply(x, dtype)

    def rows(self, ids: Tensor, dtype: str, static: bool = False) -> Tensor:
        rows = ops.take(self.matrix(dtype), ids, axis=0)
        return nan_out_of_range(rows, ids, self.shape[0])

    def matrix(self, dtype: str) -> Tensor:
        return ops.transpose(self._plain.matrix(dtype))

    def two_factors(self, dtype: str) -> tuple[Tensor, Tensor] | None:
        factors = self._plain.two_factors(dtype)
        if factors is None:
            return None
        left, right = factors
        return ops.transpose(right), ops.transpose(left)

    @property
    def num_parameters(self) -> int:
        return self._plain.num_parameters

    def numbers(self) -> dict[str, keras.Variable]:
        return self._plain.numbers()

    def save(self, store: Any, owner: str) -> None:
        self._plain.save(store, owner)

    def load(self, store: Any, owner: str) -> None:
        self._plain.load(store, owner)

    def plus(self, a: np.ndarray, b: np.ndarray) -> tuple[Self, dict[str, np.ndarray]]:
        raised, numbers = self._plain.plus(b.T, a.T)
        return type(self)(raised), numbers
