"""A matrix stored as k pairs of factors, with entropy coded coordinates."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers._checks import check_choice
from keras_messi.layers.numbers.entropy import decode, encode
from keras_messi.layers.numbers.formats import AddWeight, Tensor, add_zeros
from keras_messi.layers.storage.factors import Factors
from keras_messi.layers.storage.few_bits.entropy_coded import (
    INTEGER_DTYPES,
    add_row_scales,
    load_scales,
    save_scales,
)

MAX_CLUSTERS = 256


class EntropyCodedFactors(Factors):
    """A matrix whose rows lie on k subspaces, with factors that are integers.

    Each coordinate is an integer times the scale of its row, and each number of a basis
    an integer times the scale of its direction; scales stand cluster by cluster, as
    coordinates do. In memory a coordinate takes one or two bytes, on disk the fewer
    bits, the more often it occurs. Not trainable.
    """

    can_quantize = False

    def __init__(self, integer_dtype: str = "int8", **factors: Any) -> None:
        check_choice("integer_dtype", integer_dtype, INTEGER_DTYPES)
        self.integer_dtype = integer_dtype
        super().__init__(**{"quantization": "int8", **factors})
        if self.num_clusters > MAX_CLUSTERS:
            raise ValueError(
                f"`num_clusters` must not exceed {MAX_CLUSTERS}, so that ids take a "
                f"byte. Received: num_clusters={self.num_clusters}"
            )
        if self.quantization != "int8":
            raise ValueError(
                '`quantization` must be "int8" where factors are entropy coded. '
                f"Received: quantization={self.quantization!r}"
            )

    def _add_coordinates(self, add_weight: AddWeight) -> None:
        sizes = zip(self.cluster_sizes, self.ranks, strict=True)
        self.coordinates = [
            add_zeros(add_weight, f"integers_{c}", size, self.integer_dtype)
            for c, size in enumerate(sizes)
        ]
        self.row_scales = add_row_scales(add_weight, self.shape[0])

    def reader(self, dtype: str) -> Callable[[Tensor, int], Tensor]:
        return lambda rows, c: ops.cast(rows, dtype)

    def row_scales_in(self, dtype: str) -> Tensor:
        return ops.cast(self.row_scales, dtype)

    @property
    def _basis_scales(self) -> keras.Variable:
        assert self.basis_scales is not None  # of integers there are some
        return self.basis_scales

    def numbers(self) -> dict[str, keras.Variable]:
        return {"basis_scales": self._basis_scales}

    def save(self, store: Any, owner: str) -> None:
        store["basis_scales"] = self._basis_scales
        store["coded_bases"] = encode(ops.convert_to_numpy(self.bases))
        if self.routing is not None:
            store["coded_assignments"] = encode_clusters(self.assignments)
        save_scales(store, self.row_scales)
        for c, integers in enumerate(self.coordinates):
            store[f"integers_{c}"] = encode(ops.convert_to_numpy(integers))

    def load(self, store: Any, owner: str) -> None:
        self._basis_scales.assign(store["basis_scales"])
        self.bases.assign(decode(store["coded_bases"], self.bases.shape, "int8"))
        if self.routing is not None:
            clusters = _decode_clusters(store["coded_assignments"], self.shape[0])
            self._assign_routing(clusters, owner)
        load_scales(store, self.row_scales)
        for c, integers in enumerate(self.coordinates):
            coded = store[f"integers_{c}"]
            integers.assign(decode(coded, integers.shape, self.integer_dtype))


def encode_clusters(assignments: np.ndarray) -> np.ndarray:
    """Cluster ids below 256 of n rows, entropy coded."""
    ids = assignments.astype(np.int32) - 128
    return encode(ids.astype(np.int8)[:, np.newaxis])


def _decode_clusters(coded: Any, n: int) -> np.ndarray:
    return decode(coded, (n, 1), "int8")[:, 0].astype(np.int32) + 128
