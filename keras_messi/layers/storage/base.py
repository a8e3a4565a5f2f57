"""What every way to store a matrix can do."""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from keras_messi.layers.numbers.formats import AddWeight, Tensor


class Storage(ABC):
    """A matrix A of shape (n, d), stored in a smaller form.

    A plain object, not a layer: the layer that holds it owns the weights, which `build`
    creates by its `add_weight`. So weights have the names and places that they would
    have in a layer that creates them itself. Arguments of a storage are arguments of
    the layer, and attributes of the storage, too.

    `multiply` and `multiply_transposed` may be replaced where the form of the matrix
    offers a faster way than to compute with all of it.

    Attributes:
        weights: Attributes besides the arguments that can be read on the layer.
        can_quantize: Whether `quantized` and `dequantized` are implemented.
        regularizer: Regularizer of the trained numbers.
        quantization: None, or the mode that trained numbers are quantized in.
        shape: `(n, d)`, once built.
    """

    weights: ClassVar[tuple[str, ...]] = ()
    can_quantize: ClassVar[bool] = False
    regularizer: Any = None
    quantization: str | None = None
    shape: tuple[int, int]

    @property
    def plain(self) -> Any:
        """The storage that holds the numbers of the matrix: mostly itself."""
        return self

    @classmethod
    def arguments(cls) -> list[str]:
        """Names of all arguments, those of base classes included."""
        found = [
            parameter.name
            for base in cls.__mro__[:-1]
            if "__init__" in vars(base)
            for parameter in inspect.signature(base).parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        return list(dict.fromkeys(found))

    @classmethod
    def pop_from(cls, options: dict[str, Any]) -> Self:
        """A storage of those options that are its arguments, which are removed."""
        names = [name for name in cls.arguments() if name in options]
        return cls(**{name: options.pop(name) for name in names})

    def get_config(self) -> dict[str, Any]:
        """The arguments, serialized."""
        config = {name: getattr(self, name) for name in self.arguments()}
        for name, value in config.items():
            if name.endswith("_initializer"):
                config[name] = keras.initializers.serialize(value)
            if name.endswith("_regularizer"):
                config[name] = keras.regularizers.serialize(value)
        return config

    @abstractmethod
    def build(
        self, add_weight: AddWeight, shape: tuple[int, int], by_rows: bool
    ) -> None:
        """Create the weights.

        Args:
            add_weight: `add_weight` of the layer.
            shape: Shape (n, d) of the matrix.
            by_rows: Whether the matrix is for `rows` and `multiply_transposed`, as in
                an Embedding, or for `multiply`, as in a Dense layer. All work either
                way; it says which should be fast.
        """

    def multiply(self, x: Tensor, dtype: str) -> Tensor:
        """x @ A: from `(..., n)` to `(..., d)`."""
        return ops.matmul(x, self.matrix(dtype))

    def multiply_transposed(self, x: Tensor, dtype: str) -> Tensor:
        """x @ A.T: from `(rows, d)` to `(rows, n)`."""
        return ops.matmul(x, ops.transpose(self.matrix(dtype)))

    @abstractmethod
    def rows(self, ids: Tensor, dtype: str, static: bool = False) -> Tensor:
        """Rows of A: from `(...)` to `(..., d)`.

        Args:
            ids: Integers of any shape.
            dtype: Of the result.
            static: Whether no shape may depend on the values of the ids.
        """

    @abstractmethod
    def matrix(self, dtype: str) -> Tensor:
        """The matrix A, `(n, d)`."""

    def two_factors(self, dtype: str) -> tuple[Tensor, Tensor] | None:
        """L, `(n, r)`, and R, `(r, d)`, of which A is the product, if it is stored so.

        With k clusters r is the sum of their ranks. One of the two has zeros where a
        row or column is in another cluster.
        """
        return None

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Numbers in the weights, in however few bits; no scales, ids and codes."""

    @abstractmethod
    def numbers(self) -> dict[str, keras.Variable]:
        """The weights that hold numbers and scales, by the names on disk."""

    @abstractmethod
    def save(self, store: Any, owner: str) -> None:
        """Write what tells the matrix; `owner` is the layer's name, for errors."""

    @abstractmethod
    def load(self, store: Any, owner: str) -> None:
        """Read what `save` wrote."""

    def quantized(
        self, numbers: dict[str, np.ndarray], mode: str
    ) -> dict[str, np.ndarray]:
        """All `numbers`, given as floats, after quantization."""
        raise NotImplementedError

    def dequantized(self, dtype: str) -> dict[str, Any]:
        """All `numbers` as floats again."""
        raise NotImplementedError

    @property
    def can_merge(self) -> bool:
        """Whether `plus` is implemented: whether a product can be added exactly."""
        return False

    def plus(self, a: np.ndarray, b: np.ndarray) -> tuple[Self, dict[str, np.ndarray]]:
        """A storage of A + a @ b, not built, and its `numbers`."""
        raise NotImplementedError
