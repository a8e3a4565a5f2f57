"""A matrix stored as k pairs of factors, with coordinates in a few bits."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers.numbers.codes import pack_codes, unpack_codes
from keras_messi.layers.numbers.formats import AddWeight, Tensor, add_zeros
from keras_messi.layers.numbers.levels import check_levels, read_levels
from keras_messi.layers.storage.factors import Factors


class RoundedFactors(Factors):
    """A matrix whose rows lie on k subspaces, with coordinates that are levels.

    Each coordinate is one of `2^bits` levels, times the scale of its row. With
    ``quantization`` the bases are integers with a scale for each row. Nothing but bases
    that are no integers is trained.

    In memory a coordinate takes a byte, on disk as many bits as it has.
    """

    can_quantize = False

    def __init__(
        self,
        bits: int,
        levels: str = "normal",
        quantization: str | None = "int8",
        **factors: Any,
    ) -> None:
        check_levels(bits, levels)
        super().__init__(quantization=quantization, **factors)
        self.bits = int(bits)
        self.levels = levels

    def _add_coordinates(self, add_weight: AddWeight) -> None:
        sizes = zip(self.cluster_sizes, self.ranks, strict=True)
        self.coordinates = [
            add_zeros(add_weight, f"codes_{c}", size, "uint8")
            for c, size in enumerate(sizes)
        ]
        self.row_scales = add_zeros(
            add_weight, "row_scales", (self.shape[0],), "float16"
        )

    def reader(self, dtype: str) -> Callable[[Tensor, int], Tensor]:
        return lambda rows, c: read_levels(rows, self.bits, self.levels, dtype)

    def row_scales_in(self, dtype: str) -> Tensor:
        return ops.cast(self.row_scales, dtype)

    def numbers(self) -> dict[str, keras.Variable]:
        named = super().numbers()
        return {name: x for name, x in named.items() if "coordinates" not in name}

    def save(self, store: Any, owner: str) -> None:
        super().save(store, owner)
        for c, codes in enumerate(self.coordinates):
            packed = pack_codes(ops.convert_to_numpy(codes), 2**self.bits)
            store[f"codes_{c}"] = packed

    def load(self, store: Any, owner: str) -> None:
        super().load(store, owner)
        for c, codes in enumerate(self.coordinates):
            packed = np.asarray(store[f"codes_{c}"])
            codes.assign(unpack_codes(packed, codes.shape, 2**self.bits))

    @property
    def can_merge(self) -> bool:
        return False
