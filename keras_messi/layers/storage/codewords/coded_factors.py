"""A matrix stored as k pairs of factors, with codes for coordinates."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers.numbers.codewords import Codewords
from keras_messi.layers.numbers.formats import AddWeight, Tensor
from keras_messi.layers.storage.factors import Factors
from keras_messi.layers.storage.lookup import nan_out_of_range
from keras_messi.layers.storage.quantized_factors import quantize_bases


class CodedFactors(Factors):
    """A matrix whose rows lie on k subspaces, at codewords.

    The coordinates of a row are cut into blocks, and each is a codeword. All clusters
    share the codebooks; one of lower rank uses those of the first blocks only.

    With ``quantization`` the bases are integers with a scale for each row, and not
    trainable. Codes stay as they are.
    """

    weights = (*Factors.weights, "codebooks", "uses")

    def __init__(
        self,
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        **factors: Any,
    ) -> None:
        super().__init__(**factors)
        self._codewords = Codewords(block_size, num_codewords, num_codebooks)
        self.block_size = self._codewords.block_size
        self.num_codewords = self._codewords.num_codewords
        self.num_codebooks = self._codewords.num_codebooks
        if any(rank % self.block_size for rank in self.ranks):
            raise ValueError(
                f"`rank` must be a multiple of block_size={self.block_size}. "
                f"Received: rank={self.rank}"
            )
        self._codewords.check_blocks(max(self.ranks) // self.block_size)

    def _add_coordinates(self, add_weight: AddWeight) -> None:
        sizes = zip(self.cluster_sizes, self.ranks, strict=True)
        self._codewords.build(
            add_weight,
            {
                f"codes_{c}": (size, rank // self.block_size)
                for c, (size, rank) in enumerate(sizes)
            },
            self.coordinates_initializer,
            self.factors_regularizer,
        )
        self.coordinates = list(self._codewords.tables.values())
        self.codebooks, self.uses = self._codewords.codebooks, self._codewords.uses

    def reader(self, dtype: str) -> Callable[[Tensor, int], Tensor]:
        codebooks = self._codewords.averaged()

        def read(rows: Tensor, c: int) -> Tensor:
            num_blocks = self.ranks[c] // self.block_size
            return ops.cast(self._codewords.decode(codebooks, rows, num_blocks), dtype)

        return read

    def rows(self, ids: Tensor, dtype: str, static: bool = False) -> Tensor:
        return nan_out_of_range(super().rows(ids, dtype, static), ids, self.shape[0])

    @property
    def num_parameters(self) -> int:
        return math.prod(self.codebooks.shape) + sum(self.ranks) * self.shape[1]

    def numbers(self) -> dict[str, keras.Variable]:
        named = {"codebooks": self.codebooks, "bases": self.bases}
        if self.basis_scales is not None:
            named["basis_scales"] = self.basis_scales
        return named

    def save(self, store: Any, owner: str) -> None:
        super().save(store, owner)
        self._codewords.save(store)

    def load(self, store: Any, owner: str) -> None:
        codes = self._codewords.unpack(store, owner)
        super().load(store, owner)
        self._codewords.assign(codes)

    def quantized(
        self, numbers: dict[str, np.ndarray], mode: str
    ) -> dict[str, np.ndarray]:
        return {**numbers, **quantize_bases(numbers["bases"], mode)}

    @property
    def can_merge(self) -> bool:
        return False

    def dequantized(self, dtype: str) -> dict[str, Any]:
        return {"codebooks": self.codebooks, "bases": self._scaled_bases(dtype)}
