"""The factors of a matrix as a layer holds them: numbers, or codes with scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_messi.layers._backend import split, take_rows
from keras_messi.layers._quantized import STEPS, whole_numbers

Tensor = Any


@dataclass(frozen=True)
class Factors:
    """k pairs of factors, to be read in a dtype to compute in.

    Of codes, `read_coordinates` and `read_bases` give whole numbers, which lack the
    steps of their rows: those may be multiplied where there is less to multiply. Of
    numbers, there are no steps.

    Attributes:
        coordinates: The k tables `U_c`, of `n_c` rows each.
        bases: All `V_c`, one below the other.
        ranks: The k ranks `j_c`.
        quantization: None, or what the codes are.
        row_scales: None, or of shape `(n,)`, clusters one after another.
        basis_scales: None, or of shape `(j_1 + ... + j_k,)`.
    """

    coordinates: Sequence[Tensor]
    bases: Tensor
    ranks: Sequence[int]
    quantization: str | None = None
    row_scales: Tensor | None = None
    basis_scales: Tensor | None = None

    @property
    def sizes(self) -> list[int]:
        """The k numbers of rows `n_c`."""
        return [table.shape[0] for table in self.coordinates]

    def read_coordinates(self, c: int, dtype: str) -> Tensor:
        """`U_c` without steps."""
        return self.as_numbers(self.coordinates[c], c, dtype)

    def read_rows(self, c: int, rows: Tensor, dtype: str) -> Tensor:
        """Some rows of `U_c` without steps, gathered first and cast after."""
        return self.as_numbers(take_rows(self.coordinates[c], rows), c, dtype)

    def as_numbers(self, rows: Tensor, c: int, dtype: str) -> Tensor:
        """Rows of the table of `U_c` as numbers, of shape `(..., j_c)`."""
        if self.quantization is None:
            return ops.cast(rows, dtype)
        return whole_numbers(rows, self.quantization, self.ranks[c], -1, dtype)

    def read_bases(self, dtype: str) -> Tensor:
        """All `V_c` without steps, of shape `(j_1 + ... + j_k, d)`."""
        if self.quantization is None:
            return ops.cast(self.bases, dtype)
        return whole_numbers(self.bases, self.quantization, sum(self.ranks), -2, dtype)

    def row_steps(self, dtype: str) -> Tensor | None:
        """What all rows of the `U_c` are to be multiplied by, of shape `(n,)`."""
        return self._steps(self.row_scales, dtype)

    def row_steps_at(self, rows: Tensor, dtype: str) -> Tensor | None:
        """The same of some rows, of shape `(*rows.shape, 1)`."""
        # Cast first, as LiteRT looks up no float16; and in a table of two axes, as
        # torch exports a look-up in no other to ONNX.
        steps = column(self.row_steps(dtype))
        return None if steps is None else ops.take(steps, rows, axis=0)

    def basis_steps(self, dtype: str) -> Tensor | None:
        """What rows of all `V_c` are to be multiplied by."""
        return self._steps(self.basis_scales, dtype)

    def _steps(self, scales: Tensor | None, dtype: str) -> Tensor | None:
        if self.quantization is None:
            return None
        return ops.cast(scales, dtype) / STEPS[self.quantization]

    def multiplied_coordinates(self, dtype: str) -> list[Tensor]:
        """The k tables `U_c`, steps and all."""
        tables = [self.read_coordinates(c, dtype) for c in range(len(self.ranks))]
        steps = split_steps(self.row_steps(dtype), self.sizes)
        return [times(u, column(own)) for u, own in zip(tables, steps, strict=True)]

    def multiplied_bases(self, dtype: str) -> Tensor:
        """All `V_c`, steps and all, of shape `(j_1 + ... + j_k, d)`."""
        return times(self.read_bases(dtype), column(self.basis_steps(dtype)))


def split_steps(steps: Tensor | None, sizes: Sequence[int]) -> list[Tensor | None]:
    """The steps of each cluster."""
    return [None] * len(sizes) if steps is None else split(steps, sizes)


def times(x: Tensor, steps: Tensor | None) -> Tensor:
    """x, multiplied by steps if there are any."""
    return x if steps is None else x * steps


def column(steps: Tensor | None) -> Tensor | None:
    """Steps for the rows of a table, of shape `(..., 1)`, if there are any."""
    return None if steps is None else ops.expand_dims(steps, -1)
