"""Factors whose coordinates are codewords, as a layer holds them."""

from dataclasses import dataclass

from keras import ops

from keras_messi.layers._codes import codewords_at
from keras_messi.layers._factors import Factors, Tensor


@dataclass(frozen=True, kw_only=True)
class CodedFactors(Factors):
    """k pairs of factors, of which the `U_c` are made of codewords.

    Attributes:
        coordinates: The k tables of codes, of shape `(n_c, blocks of U_c)`.
        codebooks: Of shape `(num_codebooks, num_codewords, block_size)`.
        longest: Blocks of the widest `U_c`, which the codebooks are for.
    """

    codebooks: Tensor
    longest: int

    def as_numbers(self, rows: Tensor, c: int, dtype: str) -> Tensor:
        """Rows of codes as the numbers of `U_c`, of shape `(..., j_c)`."""
        return ops.cast(codewords_at(self.codebooks, rows, self.longest), dtype)

    def row_steps(self, dtype: str) -> Tensor | None:
        """None, as codewords have all their size."""
        return None
