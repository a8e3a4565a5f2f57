"""Blocks of numbers stored as codes of codewords in trained codebooks."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers._checks import check_positive, divisors
from keras_messi.layers.numbers.codes import (
    MAX_CODEWORDS,
    averaged_over_uses,
    codes_dtype,
    codewords_at,
    count_uses,
    distinct_codes,
    pack_codes,
    unpack_codes,
)
from keras_messi.layers.numbers.formats import AddWeight, Tensor


class Codewords:
    """Codebooks, and tables whose rows are blocks that are codewords of them.

    `codebooks` is trained, and the codes are not. `uses`, the number of blocks of each
    codeword, is for the gradient; it follows from the codes and is not stored.

    On disk codes take `ceil(log2(num_codewords))` bits for each block.
    """

    def __init__(self, block_size: int, num_codewords: int, num_codebooks: int) -> None:
        check_positive("block_size", block_size)
        check_positive("num_codewords", num_codewords)
        check_positive("num_codebooks", num_codebooks)
        if num_codewords > MAX_CODEWORDS:
            raise ValueError(
                "`num_codewords` must not exceed 65,536, so that a code takes two "
                f"bytes. Received: num_codewords={num_codewords}"
            )
        self.block_size = int(block_size)
        self.num_codewords = int(num_codewords)
        self.num_codebooks = int(num_codebooks)

    def check_blocks(self, num_blocks: int) -> None:
        """Raise ValueError unless the codebooks share the blocks of a row evenly."""
        if num_blocks % self.num_codebooks:
            raise ValueError(
                f"`num_codebooks` must divide the blocks of a row, {num_blocks}: one "
                f"of {divisors(num_blocks)}. "
                f"Received: num_codebooks={self.num_codebooks}"
            )

    def build(
        self,
        add_weight: AddWeight,
        shapes: Mapping[str, tuple[int, int]],
        initializer: Any,
        regularizer: Any,
    ) -> None:
        """Create the weights, with a table of codes for each shape (rows, blocks)."""
        self._longest = max(num_blocks for _, num_blocks in shapes.values())
        self.codebooks = add_weight(
            name="codebooks",
            shape=(self.num_codebooks, self.num_codewords, self.block_size),
            initializer=initializer,
            regularizer=regularizer,
            autocast=False,  # codewords are gathered first and cast after
        )
        codes = {
            name: distinct_codes(*shape, self.num_codewords)
            for name, shape in shapes.items()
        }
        dtype = codes_dtype(self.num_codewords)
        self.tables = {
            name: _add_integers(add_weight, name, value, dtype)
            for name, value in codes.items()
        }
        uses = self._count(codes)
        self.uses = _add_integers(add_weight, "uses", uses, "int32")

    def _count(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        """How many blocks of all tables are each codeword, at least 1."""
        size = self.num_codebooks, self.num_codewords
        uses = sum(count_uses(table, *size, self._longest) for table in codes.values())
        return np.maximum(uses, 1)

    def averaged(self) -> Tensor:
        """The codebooks, with the gradient averaged over the uses of each codeword."""
        codebooks = ops.convert_to_tensor(self.codebooks)
        return averaged_over_uses(codebooks, self.uses)

    def decode(self, codebooks: Tensor, codes: Tensor, num_blocks: int) -> Tensor:
        """Numbers of rows of codes: `(..., num_blocks * block_size)`."""
        shape = self.codebooks.shape
        return codewords_at(codebooks, codes, shape, num_blocks, self._longest)

    def save(self, store: Any) -> None:
        """Write the packed codes; the codebooks are for the owner to write."""
        for name, codes in self.tables.items():
            store[name] = pack_codes(ops.convert_to_numpy(codes), self.num_codewords)

    def unpack(self, store: Any, owner: str) -> dict[str, np.ndarray]:
        """The stored codes, each of which must have a codeword."""
        found = {}
        for name, table in self.tables.items():
            packed = np.asarray(store[name])
            codes = unpack_codes(packed, table.shape, self.num_codewords)
            if codes.max() >= self.num_codewords:
                raise ValueError(
                    f"Layer '{owner}' expects codes below num_codewords="
                    f"{self.num_codewords}. The stored ones go up to {codes.max()}."
                )
            found[name] = codes
        return found

    def assign(self, codes: Mapping[str, np.ndarray]) -> None:
        """Replace all codes, and count the uses of the codewords again."""
        for name, table in self.tables.items():
            table.assign(codes[name])
        self.uses.assign(self._count(codes))


def _add_integers(
    add_weight: AddWeight, name: str, value: np.ndarray, dtype: str
) -> keras.Variable:
    return add_weight(
        name=name,
        shape=value.shape,
        initializer=lambda shape, dtype: ops.convert_to_tensor(value, dtype),
        dtype=dtype,
        trainable=False,
        autocast=False,
    )
