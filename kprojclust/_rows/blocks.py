"""Where rows come from: memory, a memory map, several files; read block by block.

An engine offers rows, a state of a few numbers for each row, and one way to work on
both: ``map_reduce`` applies a function to each block of rows and its state, stores the
state it returns and adds up the sums it returns. Dask arrays
have one of their own.
"""

import mmap
from pathlib import Path

import numpy as np
from sklearn.utils.random import sample_without_replacement

from kprojclust._parallel.tiles import batches, block_rows
from kprojclust._rows.state import RowState, is_constant


class LocalRows:
    """Rows of arrays on this machine, one array after the other.

    Parameters
    ----------
    arrays : list of ndarray of shape (n_samples_i, n_features)
        In memory, or memory maps, which are never read as a whole.
    sample_weight : ndarray of shape (n_samples,)
    dtype : dtype
        Blocks are converted to it.
    """

    def __init__(self, arrays, sample_weight, dtype):
        self.arrays = arrays
        self.sample_weight = sample_weight
        self.dtype = np.dtype(dtype)
        *self._starts, n_samples = np.cumsum([0, *map(len, arrays)]).tolist()
        self.shape = n_samples, arrays[0].shape[1]

    @property
    def in_memory(self):
        """Whether the rows are one array in memory, ready to use."""
        first = self.arrays[0]
        return len(self.arrays) == 1 and not _maps(first) and first.dtype == self.dtype

    @property
    def nbytes(self):
        """Size of all rows."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @property
    def X(self):
        """All rows as one array in memory."""
        return self.arrays[0] if self.in_memory else self.read(0, len(self))

    def load(self):
        """These rows in memory."""
        if self.in_memory:
            return self
        return LocalRows([np.array(self.X)], self.sample_weight, self.dtype)

    def __len__(self):
        return self.shape[0]

    def blocks(self):
        """Yield the slice of each block, and its rows."""
        size = len(self)
        if not self.in_memory:
            size = block_rows(self.shape[1], self.dtype.itemsize)
        for rows in batches(len(self), size):
            yield rows, self.read(rows.start, rows.stop)

    def read(self, start, stop):
        """Rows from start to stop, which must be within the rows, in ``dtype``."""
        parts = []
        for array, first in zip(self.arrays, self._starts, strict=True):
            here = slice(max(start - first, 0), min(stop - first, len(array)))
            if here.start < here.stop:
                check_file_size(array)
                parts.append(np.asarray(array[here], dtype=self.dtype, order="C"))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def check_finite(self):
        """Raise ValueError that names the first row with NaN or infinity."""
        for rows, X in self.blocks():
            raise_if_not_finite(X, rows.start)

    def take(self, indices):
        """Rows of the given indices, sorted, as LocalRows in memory."""
        X = np.empty((len(indices), self.shape[1]), dtype=self.dtype)
        for array, first in zip(self.arrays, self._starts, strict=True):
            check_file_size(array)
            here = (indices >= first) & (indices < first + len(array))
            X[here] = array[indices[here] - first]
        return LocalRows([X], weights_at(self.sample_weight, indices), self.dtype)

    def map_reduce(self, function, state, *arguments):
        """Apply ``function(block, state of the block, *arguments)`` to all blocks.

        Parameters
        ----------
        function : callable
            Returns the new state of the block and its sums, which can be added.
        state : RowState
            May be overwritten.

        Returns
        -------
        state, sums
        """
        total = None
        for rows, block in self.blocks():
            before = RowState(*(part[rows] for part in state))
            after, sums = function(block, before, *arguments)
            total = sums if total is None else total + sums
            if len(after.labels) == len(self):
                return after, total
            state = self._stored(state, rows, after)
        return state, total

    def _stored(self, state, rows, after):
        """State with what is new for some rows; the sample weights are left alone."""
        parts = []
        for part, new in zip(state, after, strict=True):
            if not np.may_share_memory(part, new):
                if np.may_share_memory(part, self.sample_weight):
                    part = np.array(part)
                part[rows] = new
            parts.append(part)
        return RowState(*parts)

    def map(self, function, dtype, n_columns, *arguments):
        """Rows of ``function(block, sample_weight of the block, *arguments)``.

        An array of the given dtype, of shape (n_samples,) if n_columns is None and of
        shape (n_samples, n_columns) otherwise.
        """
        if self.in_memory:
            return function(self.X, self.sample_weight, *arguments)
        shape = (len(self),) if n_columns is None else (len(self), n_columns)
        result = np.empty(shape, dtype=dtype)
        for rows, X in self.blocks():
            result[rows] = function(X, self.sample_weight[rows], *arguments)
        return result

    def begin(self, labels, row_weights):
        """State of rows with given labels.

        Labels None are zeros, row weights None are the sample weights.
        """
        if labels is None:
            labels = np.zeros(len(self), dtype=np.int32)
        if row_weights is None:
            row_weights = self.sample_weight
        residuals, gaps = np.zeros((2, len(self)), dtype=self.dtype)
        return RowState(self.sample_weight, labels, residuals, gaps, row_weights)

    def at(self, state, indices):
        """State of the rows of the given indices, as arrays."""
        return RowState(*(part[indices] for part in state))

    def relabel(self, state, indices, labels):
        """State in which the rows of the given indices have new labels."""
        state.labels[indices] = labels  # no one else holds them
        return state

    def labels_of(self, state):
        """Labels in the form in which users get them."""
        return state.labels


def weights_at(sample_weight, indices):
    """Weights of some rows; a constant one still takes no memory."""
    if is_constant(sample_weight):
        return sample_weight[: len(indices)]
    return sample_weight[indices]


def draw_rows(sample_weight, n_rows, random_state):
    """Indices of that many different rows with a weight, or of all of them."""
    if is_constant(sample_weight):
        n_samples = len(sample_weight)
        return sample_without_replacement(n_samples, n_rows, random_state=random_state)
    return random_state.permutation(np.flatnonzero(sample_weight > 0))[:n_rows]


def float_like(dtype):
    """What rows of a dtype are converted to: float32 stays, all else is float64."""
    return np.dtype(np.float32 if dtype == np.float32 else np.float64)


def _maps(array):
    return isinstance(array, np.memmap)


def check_file_size(array):
    """Raise OSError if the file of a memory map no longer holds all of it.

    Reading beyond its end would end the process.
    """
    base = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is None or not _maps(array):
        return
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    if base.size() < start + len(base):
        raise OSError(
            f"X is a memory map of {array.filename}, which must keep at least "
            f"{start + len(base)} bytes while it is mapped. Got {base.size()} bytes."
        )


def open_shards(paths):
    """Memory maps of .npy files whose rows belong together, in order."""
    arrays = [np.load(Path(path), mmap_mode="r") for path in paths]
    for path, array in zip(paths, arrays, strict=True):
        if array.ndim != 2 or array.shape[1] != arrays[0].shape[1]:
            raise ValueError(
                f"X must be files of 2D arrays with equal numbers of columns, "
                f"{arrays[0].shape[-1]} as in {paths[0]}. "
                f"Got shape {array.shape} in {path}."
            )
    return [array for array in arrays if len(array)] or arrays[:1]


def raise_if_not_finite(X, first_row):
    """Raise ValueError for a row of a block whose first row has that number."""
    # The sum of finite numbers may overflow, so it only tells where to look.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(X.sum(dtype=np.float64))
    if not suspicious:
        return
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad):
        raise ValueError(
            "X must be finite. Got NaN or infinity in row "
            f"{first_row + bad[0]} (counted from 0)."
        )
