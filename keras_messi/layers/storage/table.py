"""What storages share that keep a matrix, or its transpose, row after row."""

from keras import ops

from keras_messi.layers.numbers.formats import Tensor
from keras_messi.layers.storage.base import Storage


class Table(Storage):
    """A matrix stored as a table T: itself if it is for rows, otherwise transposed.

    A subclass implements `table` and sets `_by_rows` when it is built.
    """

    _by_rows: bool

    @property
    def by_rows(self) -> bool:
        """Whether T is the matrix itself, and not its transpose."""
        return self._by_rows

    def table(self, dtype: str) -> Tensor:
        """The table T."""
        raise NotImplementedError

    def matrix(self, dtype: str) -> Tensor:
        table = self.table(dtype)
        return table if self._by_rows else ops.transpose(table)

    def multiply(self, x: Tensor, dtype: str) -> Tensor:
        if self._by_rows:
            return super().multiply(x, dtype)
        return self._times_transposed(x, dtype)

    def multiply_transposed(self, x: Tensor, dtype: str) -> Tensor:
        if self._by_rows:
            return self._times_transposed(x, dtype)
        return super().multiply_transposed(x, dtype)

    def _times_transposed(self, x: Tensor, dtype: str) -> Tensor:
        """x @ T.T, of shape (..., rows of T)."""
        return ops.matmul(x, ops.transpose(self.table(dtype)))
