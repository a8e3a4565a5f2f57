"""Factors whose coordinates are codewords, as a layer holds them."""

from collections.abc import Sequence
from dataclasses import dataclass

from keras import ops

from keras_messi.layers._codes import codewords_at
from keras_messi.layers._factors import Factors, Tensor


@dataclass(frozen=True, kw_only=True)
class CodedFactors(Factors):
    """k pairs of factors, of which the `U_c` are made of codewords.

    Attributes:
        coordinates: The k tables of codes, of shape `(n_c, blocks of U_c)`.
        codebooks_shape: `(num_codebooks, num_codewords, block_size)`.
        codebooks: Tensor of that shape.
        longest: Blocks of the widest `U_c`, which the codebooks are for.
    """

    codebooks: Tensor
    codebooks_shape: Sequence[int]
    longest: int

    def as_numbers(self, rows: Tensor, c: int, dtype: str) -> Tensor:
        """Rows of codes as the numbers of `U_c`, of shape `(..., j_c)`."""
        num_blocks = self.ranks[c] // self.codebooks_shape[-1]
        blocks = codewords_at(
            self.codebooks, rows, self.codebooks_shape, num_blocks, self.longest
        )
        return ops.cast(blocks, dtype)

    def row_steps(self, dtype: str) -> Tensor | None:
        """None, as codewords have all their size."""
        return None
