"""Rows of a Dask array: the blocks stay on the workers, only sums come back.

Every call of ``map_reduce`` is one task for each block, and a tree of additions. What
is known of the rows stays beside them as futures, so that a lost worker costs its
blocks only: Dask computes them again from where they came from.
"""

from functools import reduce
from operator import add

import dask
import dask.array as da
import numpy as np
from dask import delayed

from kprojclust._rows.blocks import (
    LocalRows,
    float_like,
    raise_if_not_finite,
    weights_at,
)
from kprojclust._rows.state import RowState
from kprojclust._rows.validation import check_sample_weight

# Sums of so many blocks are added up at a time.
_FAN_IN = 8


def dask_rows(X, sample_weight, dtype):
    """Rows of a Dask array, split along the rows only into blocks of known size.

    dtype None keeps float32, and takes float64 for all else.
    """
    check_chunks(X)
    dtype = dtype or float_like(X.dtype)
    (sample_weight,) = dask.compute(sample_weight)
    weights = check_sample_weight(sample_weight, X.shape[0], dtype)
    return DaskRows(X.astype(dtype), weights)


def check_chunks(X):
    """Raise TypeError or ValueError unless each block holds a known part of rows."""
    if not isinstance(X, da.Array):
        raise TypeError(
            "X must be a Dask array; to_dask_array(lengths=True) makes one of a Dask "
            f"DataFrame. Got {type(X).__name__}."
        )
    if X.ndim != 2:
        raise ValueError(f"X must be a 2D Dask array. Got {X.ndim} dimensions.")
    if X.dtype.kind not in "biuf":
        raise ValueError(f"X must hold real numbers. Got dtype {X.dtype}.")
    if np.isnan(np.concatenate(X.chunks)).any():
        raise ValueError(
            "X must have blocks of known size; X.compute_chunk_sizes() finds them. "
            f"Got chunks {X.chunks}."
        )
    if len(X.chunks[1]) > 1:
        raise ValueError(
            "X must not be split along the columns; X.rechunk({1: -1}) joins them. "
            f"Got chunks of {X.chunks[1]} columns."
        )


class DaskRows:
    """Rows of a Dask array, as an engine; see `kprojclust._rows.blocks`.

    Parameters
    ----------
    X : dask.array.Array of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,)
    """

    in_memory = False

    def __init__(self, X, sample_weight):
        self.array = X
        self.sample_weight = sample_weight
        self.dtype = np.dtype(X.dtype)
        self.shape = tuple(int(length) for length in X.shape)
        stops = np.cumsum(X.chunks[0])
        self._slices = [
            slice(int(stop - size), int(stop))
            for stop, size in zip(stops, X.chunks[0], strict=True)
        ]
        self._blocks = list(X.to_delayed().ravel())

    def __len__(self):
        return self.shape[0]

    def check_finite(self):
        """Raise ValueError that names the first row with NaN or infinity."""
        dask.compute(
            *(
                delayed(raise_if_not_finite)(block, rows.start)
                for block, rows in zip(self._blocks, self._slices, strict=True)
            )
        )

    @property
    def X(self):
        """All rows as one array in memory."""
        return self.load().X

    def load(self):
        """These rows in memory."""
        return self.take(np.arange(len(self)))

    def take(self, indices):
        """Rows of the given indices, sorted, as LocalRows in memory."""
        parts = [
            delayed(_rows_of)(block, own)
            for block, own in zip(self._blocks, self._split(indices), strict=True)
            if len(own)
        ]
        X = np.concatenate(dask.compute(*parts))
        return LocalRows([X], weights_at(self.sample_weight, indices), self.dtype)

    def map_reduce(self, function, state, *arguments):
        """As of LocalRows; the state is a list of futures, one for each block.

        Each is of the state of a block and of its sums in the last call.
        """
        shared = delayed(arguments, pure=False, traverse=False)
        pairs = [
            delayed(_apply)(function, block, pair, shared)
            for block, pair in zip(self._blocks, state, strict=True)
        ]
        total = _tree_sum([delayed(_sums_of)(pair) for pair in pairs])
        *pairs, total = dask.persist(*pairs, total)
        return pairs, total.compute()

    def map(self, function, dtype, n_columns, *arguments):
        """As of LocalRows, but a Dask array, computed when it is asked for."""
        shared = delayed(arguments, pure=False, traverse=False)
        columns = () if n_columns is None else (n_columns,)
        parts = [
            da.from_delayed(
                delayed(_map)(function, block, rows.start, self._weights(rows), shared),
                shape=(rows.stop - rows.start, *columns),
                dtype=dtype,
            )
            for block, rows in zip(self._blocks, self._slices, strict=True)
        ]
        return da.concatenate(parts)

    def begin(self, labels, row_weights):
        """State of rows with given labels.

        Labels None are zeros, row weights None are the sample weights.
        """
        state = [
            delayed(_begin)(
                rows.stop - rows.start,
                self.dtype,
                self._weights(rows),
                None if labels is None else labels[rows],
                None if row_weights is None else row_weights[rows],
            )
            for rows in self._slices
        ]
        return list(dask.persist(*state))

    def at(self, state, indices):
        """State of the rows of the given indices, as arrays."""
        parts = [
            delayed(_state_of)(pair, own)
            for pair, own in zip(state, self._split(indices), strict=True)
            if len(own)
        ]
        return RowState(*map(np.concatenate, zip(*dask.compute(*parts), strict=True)))

    def relabel(self, state, indices, labels):
        """State in which the rows of the given indices have new labels."""
        stops = np.cumsum([len(own) for own in self._split(indices)])[:-1]
        parts = [
            delayed(_relabel)(pair, own, new) if len(own) else pair
            for pair, own, new in zip(
                state, self._split(indices), np.split(labels, stops), strict=True
            )
        ]
        return list(dask.persist(*parts))

    def labels_of(self, state):
        """Labels as a Dask array."""
        if isinstance(state, RowState):  # so few rows that they were loaded
            return da.from_array(state.labels, chunks=self.array.chunks[0])
        parts = [
            da.from_delayed(
                delayed(_labels_of)(pair),
                shape=(rows.stop - rows.start,),
                dtype=np.int32,
            )
            for pair, rows in zip(state, self._slices, strict=True)
        ]
        return da.concatenate(parts)

    def _split(self, indices):
        """Indices of each block, counted from its first row."""
        starts = [rows.start for rows in self._slices]
        parts = np.split(indices, np.searchsorted(indices, starts[1:]))
        return [part - start for part, start in zip(parts, starts, strict=True)]

    def _weights(self, rows):
        """Weights of a block; a constant one travels as a number."""
        weights = self.sample_weight[rows]
        return self.sample_weight[0] if weights.strides == (0,) else weights


def _apply(function, block, pair, arguments):
    return function(block, pair[0], *arguments)


def _map(function, block, first_row, weights, arguments):
    raise_if_not_finite(block, first_row)
    return function(block, np.broadcast_to(weights, len(block)), *arguments)


def _begin(n_samples, dtype, weights, labels, row_weights):
    weights = np.broadcast_to(weights, n_samples)
    nothing = np.zeros(n_samples, dtype=dtype)
    labels = np.zeros(n_samples, dtype=np.int32) if labels is None else labels
    row_weights = weights if row_weights is None else row_weights
    return RowState(weights, labels, nothing, nothing, row_weights), None


def _rows_of(block, indices):
    return block[indices]


def _state_of(pair, indices):
    return RowState(*(part[indices] for part in pair[0]))


def _labels_of(pair):
    return pair[0].labels


def _sums_of(pair):
    return pair[1]


def _relabel(pair, indices, labels):
    new = pair[0].labels.copy()
    new[indices] = labels
    return pair[0]._replace(labels=new), None


def _tree_sum(parts):
    """Sum as a tree of tasks."""
    while len(parts) > 1:
        parts = [
            delayed(_sum_of)(parts[i : i + _FAN_IN])
            for i in range(0, len(parts), _FAN_IN)
        ]
    return parts[0]


def _sum_of(parts):
    return reduce(add, parts)
