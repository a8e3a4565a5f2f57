"""A matrix stored as k pairs of factors, with coordinates in a few bits."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_messi.layers.numbers.few_bits import Codes, unit_of
from keras_messi.layers.numbers.formats import (
    FORMATS,
    AddWeight,
    Floats,
    Tensor,
    add_zeros,
)
from keras_messi.layers.numbers.levels import check_levels
from keras_messi.layers.storage.factors import Factors
from keras_messi.layers.storage.few_bits.levels import InLevels


class RoundedFactors(InLevels, Factors):
    """A matrix whose rows lie on k subspaces, with coordinates that are levels.

    Each coordinate is one of `2^bits` levels, times the scale of its row. With
    ``quantization`` the bases are integers with a scale for each row. Codes and
    integers are not trained, unless numbers take their place.

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
        self._numbers = Codes(self.bits, levels)
        self._basis_format = FORMATS[self.quantization]

    @property
    def _format(self) -> Floats:
        return self._basis_format

    @property
    def _scales(self) -> keras.Variable:
        return self.row_scales

    def hold_numbers(self) -> None:
        super().hold_numbers()
        if self.basis_scales is not None:
            self._basis_format = self._format.trained(unit_of(self.basis_scales))

    def hold_codes(self) -> None:
        super().hold_codes()
        self._basis_format = FORMATS[self.quantization]

    def _add_coordinates(self, add_weight: AddWeight) -> None:
        sizes = zip(self.cluster_sizes, self.ranks, strict=True)
        self.coordinates = [
            self._numbers.add_table(add_weight, f"codes_{c}", size)
            for c, size in enumerate(sizes)
        ]
        self.row_scales = add_zeros(
            add_weight, "row_scales", (self.shape[0],), "float16"
        )

    def reader(self, dtype: str) -> Callable[[Tensor, int], Tensor]:
        return lambda rows, c: self._numbers.read(rows, dtype)

    def row_scales_in(self, dtype: str) -> Tensor:
        return ops.cast(self.row_scales, dtype)

    def numbers(self) -> dict[str, keras.Variable]:
        named = super().numbers()
        return {name: x for name, x in named.items() if "scales" in name}

    def save(self, store: Any, owner: str) -> None:
        super().save(store, owner)
        store["bases"] = self._format.packed(self.bases, axis=0)
        for c, codes in enumerate(self.coordinates):
            store[f"codes_{c}"] = self._numbers.packed(codes)

    def load(self, store: Any, owner: str) -> None:
        super().load(store, owner)
        rank = sum(self.ranks)
        self.bases.assign(self._format.unpacked(store["bases"], rank, axis=-2))
        for c, codes in enumerate(self.coordinates):
            codes.assign(self._numbers.unpacked(store[f"codes_{c}"], codes.shape))

    @property
    def can_merge(self) -> bool:
        return False
