"""What the product-quantized layers share: a matrix stored as codebooks and codes."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers._backend import take_rows
from keras_messi.layers._checks import divisors
from keras_messi.layers._codebooks import HoldsCodebooks
from keras_messi.layers._codes import (
    codes_dtype,
    codewords_at,
    distinct_codes,
    pack_codes,
    read_codes,
    rows_of_codes,
)


class CodedMatrix(HoldsCodebooks):
    """A matrix A of shape (n, d) whose rows are cut into blocks of equal size.

    Each block is a codeword: row i is the codewords `codes[i]`, one after another.
    `codebooks` is trained, and `codes` is not.

    On disk `codes` takes `ceil(log2(num_codewords))` bits for each block.
    """

    def __init__(
        self,
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        codebooks_initializer: Any = "glorot_uniform",
        codebooks_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            block_size=block_size,
            num_codewords=num_codewords,
            num_codebooks=num_codebooks,
            **kwargs,
        )
        self.codebooks_initializer = keras.initializers.get(codebooks_initializer)
        self.codebooks_regularizer = keras.regularizers.get(codebooks_regularizer)

    def _add_codes(self, n: int, d: int) -> None:
        """Create the weights of an (n, d) matrix."""
        self._check_width(d)
        codes = distinct_codes(n, d // self.block_size, self.num_codewords)
        self._add_codebooks(self.codebooks_initializer, self.codebooks_regularizer)
        self.codes = self._add_integers("codes", codes, codes_dtype(self.num_codewords))
        self._add_uses(codes)

    def _check_width(self, d: int) -> None:
        if d % self.block_size:
            raise ValueError(
                f"`block_size` must divide the width of the matrix, {d}: one of "
                f"{divisors(d)}. Received: block_size={self.block_size}"
            )
        self._check_blocks(d // self.block_size)

    def _rows(self, codes: Any, dtype: str) -> Any:
        """Rows of the matrix from their codes: (..., d)."""
        shape, num_blocks = self.codebooks.shape, self.codes.shape[1]
        return ops.cast(codewords_at(self._averaged, codes, shape, num_blocks), dtype)

    def _matrix(self) -> Any:
        """The (n, d) matrix, put together."""
        return self._rows(self.codes, self.variable_dtype)

    def _times_transposed(self, x: Any, dtype: str) -> Any:
        """x times the transposed matrix: (..., n)."""
        n, num_blocks = self.codes.shape
        sizes = x.shape[:-1]
        known = all(isinstance(size, int) for size in sizes)
        num_rows = math.prod(sizes) if known else None
        if tables_pay(num_rows, n, self.num_codewords, self.block_size):
            rows = ops.reshape(x, (-1, num_blocks * self.block_size))
            return ops.reshape(self._through_tables(rows, dtype), (*sizes, n))
        return ops.matmul(x, ops.transpose(self._rows(self.codes, dtype)))

    def _through_tables(self, x: Any, dtype: str) -> Any:
        """The same, of two axes, by adding up products of blocks with codewords."""
        books, words, size = self.codebooks.shape
        num_blocks = self.codes.shape[1]
        codebooks = ops.cast(self._averaged, dtype)
        x = ops.reshape(ops.transpose(x), (books, num_blocks // books, size, -1))
        # (books, blocks of each, words, rows)
        products = ops.matmul(ops.expand_dims(codebooks, 1), x)
        table = ops.reshape(products, (num_blocks * words, -1))
        # A table for each block: (n, num_blocks)
        places = rows_of_codes(self.codes, np.arange(num_blocks), words)
        return ops.transpose(ops.sum(take_rows(table, places), axis=1))

    @property
    def num_parameters(self) -> int:
        """Numbers in the weights; the codes are none of them."""
        return math.prod(self.codebooks.shape)

    def save_own_variables(self, store: Any) -> None:
        if not bool(ops.all(ops.isfinite(self.codebooks))):
            raise ValueError(
                f"The codebooks of layer '{self.name}' must be finite. They hold NaN "
                "or infinite values."
            )
        store["codebooks"] = self.codebooks
        codes = ops.convert_to_numpy(self.codes)
        store["codes"] = pack_codes(codes, self.num_codewords)

    def load_own_variables(self, store: Any) -> None:
        shape, num_codewords = self.codes.shape, self.num_codewords
        codes = read_codes(self, store["codes"], shape, num_codewords)
        self.codebooks.assign(store["codebooks"])
        self.codes.assign(codes)
        self.uses.assign(self._uses_of(codes))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "codebooks_initializer": keras.initializers.serialize(
                self.codebooks_initializer
            ),
            "codebooks_regularizer": keras.regularizers.serialize(
                self.codebooks_regularizer
            ),
        }


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
