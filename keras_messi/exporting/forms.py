"""What a matrix is made of, for the tensors of a file: arrays, and nothing of models.

Every form has `shape`, the shape `(n, d)` of the matrix, and `matrix()`, the matrix in
float32: what an exported float model holds in its place, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Floats:
    """Floating-point numbers, as they are.

    Attributes:
        numbers: float32 of shape `(n, d)`.
    """

    numbers: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.numbers.shape

    def matrix(self) -> np.ndarray:
        return self.numbers


@dataclass(frozen=True, eq=False)
class Integers:
    """Integers with scales: `(integers - zeros) * scales`.

    Numbers along an axis share a scale in blocks. One scale a column is a block of n
    along axis 0, one scale a row a block of d along axis 1.

    Attributes:
        integers: int8 of shape `(n, d)`, from `-2^(bits - 1)` to `2^(bits - 1) - 1`.
        bits: 1 to 8.
        scales: float32 of shape `(n, d)` with blocks in the place of one axis, of
            either sign.
        axis: The axis, 0 or 1.
        block_size: Numbers in a block; the last one may be shorter.
        zeros: int8 of the shape of the scales; None if all are zero.
    """

    integers: np.ndarray
    bits: int
    scales: np.ndarray
    axis: int
    block_size: int
    zeros: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.integers.shape

    @property
    def has_scales_outside(self) -> bool:
        """Whether each row, or each column, has one scale and no zero."""
        return 1 in self.scales.shape and self.zeros is None

    def matrix(self) -> np.ndarray:
        numbers = self.integers.astype(np.float32)
        if self.zeros is not None:
            numbers -= _spread(self.zeros, self)
        return numbers * _spread(self.scales, self)


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels that are not evenly spaced, with scales: `levels[codes] * scales`.

    Attributes:
        codes: uint8 of shape `(n, d)`.
        levels: float32 of shape `(2^bits,)`.
        scales: As those of `Integers`, and so is what follows.
    """

    codes: np.ndarray
    levels: np.ndarray
    scales: np.ndarray
    axis: int
    block_size: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape

    @property
    def bits(self) -> int:
        return (len(self.levels) - 1).bit_length()

    @property
    def has_scales_outside(self) -> bool:
        """Whether each row, or each column, has one scale."""
        return 1 in self.scales.shape

    def matrix(self) -> np.ndarray:
        return self.levels[self.codes] * _spread(self.scales, self)


@dataclass(frozen=True, eq=False)
class Codes:
    """Codewords one after another, in the rows or in the columns of the matrix.

    Attributes:
        codes: Integers of shape `(lines, num_blocks)`, below `num_codewords`.
        codebooks: float32 of shape `(num_codebooks, num_codewords, block_size)`.
        books: The codebook of each block, integers of shape `(num_blocks,)`.
        axis: The axis that is cut into blocks: 1 if the lines are rows, 0 if they are
            columns.
    """

    codes: np.ndarray
    codebooks: np.ndarray
    books: np.ndarray
    axis: int

    @property
    def shape(self) -> tuple[int, int]:
        lines, num_blocks = self.codes.shape
        shape = lines, num_blocks * self.codebooks.shape[2]
        return shape if self.axis == 1 else shape[::-1]

    def matrix(self) -> np.ndarray:
        lines = self.codebooks[self.books, self.codes].reshape(len(self.codes), -1)
        return lines if self.axis == 1 else np.ascontiguousarray(lines.T)


@dataclass(frozen=True, eq=False)
class Factors:
    """Rows in k clusters: those of cluster c are `coordinates[c] @ V_c`.

    Attributes:
        coordinates: Forms of the k tables `(n_c, j_c)`.
        bases: Form of the bases `V_1` to `V_k`, one below the other, of shape
            `(j_1 + ... + j_k, d)`.
        assignments: Cluster of each row, integers of shape `(n,)`. The rows of a
            cluster are in the order that they have in the matrix.
    """

    coordinates: Sequence["Form"]
    bases: "Form"
    assignments: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.assignments), self.bases.shape[1]

    @property
    def sizes(self) -> list[int]:
        """Rows of each cluster, `n_1` to `n_k`."""
        return [table.shape[0] for table in self.coordinates]

    @property
    def ranks(self) -> list[int]:
        """Width of the coordinates of each cluster, `j_1` to `j_k`."""
        return [table.shape[1] for table in self.coordinates]

    @property
    def is_grouped(self) -> bool:
        """Whether the rows come cluster by cluster."""
        return bool(np.all(np.diff(self.assignments.astype(np.int64)) >= 0))

    @cached_property
    def order(self) -> np.ndarray:
        """The rows cluster by cluster, integers of shape `(n,)`."""
        return np.argsort(self.assignments, kind="stable")

    def matrix(self) -> np.ndarray:
        matrix = np.empty(self.shape, np.float32)
        bases = np.split(self.bases.matrix(), np.cumsum(self.ranks)[:-1])
        pairs = zip(self.coordinates, bases, strict=True)
        matrix[self.order] = np.concatenate([u.matrix() @ v for u, v in pairs])
        return matrix


@dataclass(frozen=True, eq=False)
class Turned:
    """A matrix that was turned about its mean row, or column, before it was rounded.

    Its rows are those of the turned matrix times the rotation, plus the centre; along
    axis 0 that holds for its columns.

    Attributes:
        turned: Form of the turned matrix.
        rotation: float32 of shape `(width, width)`, orthogonal, the same array for all
            that are turned alike.
        centre: float32 of shape `(width,)`.
        axis: 1 if rows are turned, 0 if columns are.
    """

    turned: "Form"
    rotation: np.ndarray
    centre: np.ndarray
    axis: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.turned.shape

    def matrix(self) -> np.ndarray:
        if self.axis == 1:
            return self.turned.matrix() @ self.rotation + self.centre
        return self.rotation.T @ self.turned.matrix() + self.centre[:, np.newaxis]


@dataclass(frozen=True, eq=False)
class Sum:
    """A sum of matrices, such as one with LoRA weights that are not merged.

    Attributes:
        terms: Their forms.
    """

    terms: Sequence["Form"]

    @property
    def shape(self) -> tuple[int, int]:
        return self.terms[0].shape

    def matrix(self) -> np.ndarray:
        first, *others = (term.matrix() for term in self.terms)
        return sum(others, first)


Form = Floats | Integers | Levels | Codes | Factors | Turned | Sum


def transposed(form: Form) -> Form:
    """Form of the transpose of a matrix; of factors and what is turned, in floats."""
    match form:
        case Integers(axis=axis, scales=scales, zeros=zeros):
            return replace(
                form,
                integers=form.integers.T,
                scales=scales.T,
                axis=1 - axis,
                zeros=None if zeros is None else zeros.T,
            )
        case Levels(axis=axis, scales=scales):
            return replace(form, codes=form.codes.T, scales=scales.T, axis=1 - axis)
        case Codes(axis=axis):
            return replace(form, axis=1 - axis)
        case Sum(terms=terms):
            return Sum([transposed(term) for term in terms])
        case _:
            return Floats(np.ascontiguousarray(form.matrix().T))


def _spread(scales: np.ndarray, form: Integers | Levels) -> np.ndarray:
    """Scales of blocks, of zeros too, for each number: float32 of shape (n, d)."""
    n = form.shape[form.axis]
    wide = np.repeat(scales.astype(np.float32), form.block_size, axis=form.axis)
    return wide[:n] if form.axis == 0 else wide[:, :n]
