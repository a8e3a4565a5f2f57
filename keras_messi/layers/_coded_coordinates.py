"""What the factored layers share whose coordinates are codewords."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_messi.layers._codebooks import HoldsCodebooks
from keras_messi.layers._coded_factors import CodedFactors
from keras_messi.layers._codes import (
    codes_dtype,
    distinct_codes,
    pack_codes,
    read_codes,
)
from keras_messi.layers._factored import FactoredMatrix
from keras_messi.layers._quantized import quantize_bases


class CodedCoordinates(HoldsCodebooks, FactoredMatrix):
    """A matrix A of shape (n, d) whose rows lie on k subspaces, at codewords.

    The coordinates of a row are cut into blocks, and each is a codeword. All clusters
    share the codebooks; one of lower rank uses those of the first blocks only.

    On disk the codes of each cluster take `ceil(log2(num_codewords))` bits each.

    With ``quantization`` the bases are int8 codes with a scale for each row, and not
    trainable.
    """

    def __init__(
        self,
        num_clusters: int,
        rank: int | Sequence[int],
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_clusters=num_clusters,
            rank=rank,
            block_size=block_size,
            num_codewords=num_codewords,
            num_codebooks=num_codebooks,
            **kwargs,
        )
        if any(rank % self.block_size for rank in self.ranks):
            raise ValueError(
                f"`rank` must be a multiple of block_size={self.block_size}. "
                f"Received: rank={self.rank}"
            )
        self._check_blocks(self._longest)

    @property
    def _longest(self) -> int:
        """Blocks of the widest coordinates."""
        return max(self.ranks) // self.block_size

    def _add_coordinates(self) -> None:
        tables = [
            distinct_codes(size, rank // self.block_size, self.num_codewords)
            for size, rank in zip(self.cluster_sizes, self.ranks, strict=True)
        ]
        self._add_codebooks(self.coordinates_initializer, self.factors_regularizer)
        self.coordinates = [
            self._add_integers(f"codes_{c}", table, codes_dtype(self.num_codewords))
            for c, table in enumerate(tables)
        ]
        self._add_uses(*tables)

    def _add_quantized_coordinates(self, mode: str) -> None:
        self._add_coordinates()  # codes already

    def _in_few_bits(
        self, factors: dict[str, np.ndarray], mode: str
    ) -> dict[str, np.ndarray]:
        return {**factors, **quantize_bases(factors["bases"], mode)}

    def _in_all_bits(self, dtype: str) -> dict[str, Any]:
        bases = self._factors.multiplied_bases(dtype)
        return {"codebooks": self.codebooks, "bases": bases}

    @property
    def _factors(self) -> CodedFactors:
        return CodedFactors(
            self.coordinates,
            self.bases,
            self.ranks,
            self.quantization,
            basis_scales=self.basis_scales,
            codebooks=self._averaged,
            codebooks_shape=self.codebooks.shape,
            longest=self._longest,
        )

    def _named_factors(self) -> dict[str, Any]:
        named = {"codebooks": self.codebooks, "bases": self.bases}
        if self.quantization is not None:
            named["basis_scales"] = self.basis_scales
        return named

    @property
    def num_parameters(self) -> int:
        """Numbers in the weights, in however few bits; no scales, ids and codes."""
        d = self.bases.shape[1]
        return math.prod(self.codebooks.shape) + sum(self.ranks) * d

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for c, codes in enumerate(self.coordinates):
            table = ops.convert_to_numpy(codes)
            store[f"codes_{c}"] = pack_codes(table, self.num_codewords)

    def load_own_variables(self, store: Any) -> None:
        tables = [
            read_codes(self, store[f"codes_{c}"], codes.shape, self.num_codewords)
            for c, codes in enumerate(self.coordinates)
        ]
        super().load_own_variables(store)
        for codes, table in zip(self.coordinates, tables, strict=True):
            codes.assign(table)
        self.uses.assign(self._uses_of(*tables))
