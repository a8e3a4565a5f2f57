"""A matrix stored as codebooks and codes."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers._backend import take_rows
from keras_messi.layers._checks import divisors
from keras_messi.layers.numbers.codes import rows_of_codes
from keras_messi.layers.numbers.codewords import Codewords
from keras_messi.layers.numbers.formats import AddWeight, Tensor
from keras_messi.layers.storage.lookup import nan_out_of_range
from keras_messi.layers.storage.table import Table


class Codebooks(Table):
    """A matrix whose rows, or columns, are cut into blocks that are codewords.

    It stores a table T: the matrix itself if it is for rows, and otherwise transposed,
    so that the blocks run along the inputs of a unit. Row i of T is the codewords
    `codes[i]`, one after another.
    """

    weights = ("codebooks", "codes", "uses")

    def __init__(
        self,
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        codebooks_initializer: Any = "glorot_uniform",
        codebooks_regularizer: Any = None,
    ) -> None:
        self._codewords = Codewords(block_size, num_codewords, num_codebooks)
        self.block_size = self._codewords.block_size
        self.num_codewords = self._codewords.num_codewords
        self.num_codebooks = self._codewords.num_codebooks
        self.codebooks_initializer = keras.initializers.get(codebooks_initializer)
        self.codebooks_regularizer = keras.regularizers.get(codebooks_regularizer)
        self.regularizer = self.codebooks_regularizer

    def build(
        self, add_weight: AddWeight, shape: tuple[int, int], by_rows: bool
    ) -> None:
        self.shape, self._by_rows = shape, by_rows
        n, width = shape if by_rows else shape[::-1]
        self.check_width(width)
        self._codewords.build(
            add_weight,
            {"codes": (n, width // self.block_size)},
            self.codebooks_initializer,
            self.codebooks_regularizer,
        )
        self.codes = self._codewords.tables["codes"]
        self.codebooks, self.uses = self._codewords.codebooks, self._codewords.uses

    def check_width(self, width: int) -> None:
        """Raise ValueError unless rows of that width can be cut into blocks."""
        if width % self.block_size:
            raise ValueError(
                f"`block_size` must divide the width of the matrix, {width}: one of "
                f"{divisors(width)}. Received: block_size={self.block_size}"
            )
        self._codewords.check_blocks(width // self.block_size)

    def rows(self, ids: Tensor, dtype: str, static: bool = False) -> Tensor:
        if self._by_rows:
            # This is where an id out of range is found: the codes are all in range.
            rows = self._read(ops.take(self.codes, ids, axis=0), dtype)
        else:
            rows = ops.take(self.matrix(dtype), ids, axis=0)
        return nan_out_of_range(rows, ids, self.shape[0])

    def table(self, dtype: str) -> Tensor:
        return self._read(self.codes, dtype)

    def _read(self, codes: Tensor, dtype: str) -> Tensor:
        """Rows of T from their codes."""
        codebooks = self._codewords.averaged()
        num_blocks = self.codes.shape[1]
        return ops.cast(self._codewords.decode(codebooks, codes, num_blocks), dtype)

    def _times_transposed(self, x: Tensor, dtype: str) -> Tensor:
        n, num_blocks = self.codes.shape
        sizes = x.shape[:-1]
        known = all(isinstance(size, int) for size in sizes)
        num_rows = math.prod(sizes) if known else None
        if tables_pay(num_rows, n, self.num_codewords, self.block_size):
            rows = ops.reshape(x, (-1, num_blocks * self.block_size))
            return ops.reshape(self._through_tables(rows, dtype), (*sizes, n))
        return super()._times_transposed(x, dtype)

    def _through_tables(self, x: Tensor, dtype: str) -> Tensor:
        """The same, of two axes, by adding up products of blocks with codewords."""
        books, words, size = self.codebooks.shape
        num_blocks = self.codes.shape[1]
        codebooks = ops.cast(self._codewords.averaged(), dtype)
        x = ops.reshape(ops.transpose(x), (books, num_blocks // books, size, -1))
        # (books, blocks of each, words, rows)
        products = ops.matmul(ops.expand_dims(codebooks, 1), x)
        table = ops.reshape(products, (num_blocks * words, -1))
        # A table for each block: (n, num_blocks)
        places = rows_of_codes(self.codes, np.arange(num_blocks), words)
        return ops.transpose(ops.sum(take_rows(table, places), axis=1))

    @property
    def num_parameters(self) -> int:
        return math.prod(self.codebooks.shape)

    def numbers(self) -> dict[str, keras.Variable]:
        return {"codebooks": self.codebooks}

    def save(self, store: Any, owner: str) -> None:
        if not bool(ops.all(ops.isfinite(self.codebooks))):
            raise ValueError(
                f"The codebooks of layer '{owner}' must be finite. They hold NaN or "
                "infinite values."
            )
        store["codebooks"] = self.codebooks
        self._codewords.save(store)

    def load(self, store: Any, owner: str) -> None:
        codes = self._codewords.unpack(store, owner)
        self.codebooks.assign(store["codebooks"])
        self._codewords.assign(codes)


def tables_pay(
    num_rows: int | None, n: int, num_codewords: int, block_size: int
) -> bool:
    """Whether products go faster through tables than by the whole matrix.

    The tables save products where there are fewer codewords than rows of the matrix,
    but take a gather for each block and each row of inputs. Those outweigh a gather of
    the matrix itself from about half a block of rows of inputs on, or of any number.
    """
    if num_rows is None or num_rows < 1:
        return False
    return num_codewords < n and 2 * num_rows <= block_size
