"""Two ways to read rows of a table that is stored as k pairs of factors.

Both take the positions of the rows among all rows sorted by cluster, and the factors,
and return rows of shape `(*positions.shape, d)`. They agree in values and in gradients.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_messi.layers._backend import (
    repeat_rows,
    sorted_unique,
    spans,
    split,
    take_rows,
)
from keras_messi.layers.numbers.formats import Tensor, scaled

if TYPE_CHECKING:
    from keras_messi.layers.storage.factors import Factors

# Backends on which the shape of a tensor may depend on the values of another.
_DYNAMIC_BACKENDS = ("tensorflow", "torch")

_STATIC: ContextVar[bool] = ContextVar("static_lookup", default=False)


@contextmanager
def static_lookup() -> Iterator[None]:
    """Let look-ups that are traced inside have shapes known beforehand.

    XLA, LiteRT, ONNX and `torch.export` need that. It holds for every `MessiEmbedding`
    in the thread; what was traced before stays as it was.

    Example:

    >>> import keras_messi, numpy as np
    >>> layer = keras_messi.layers.MessiEmbedding(20, 10, num_clusters=2, rank=3)
    >>> with keras_messi.layers.static_lookup():
    ...     vectors = layer(np.array([[0, 19, 5]]))
    """
    token = _STATIC.set(True)
    try:
        yield
    finally:
        _STATIC.reset(token)


def is_static() -> bool:
    """Whether the look-up must have shapes that are known beforehand."""
    return _STATIC.get() or keras.backend.backend() not in _DYNAMIC_BACKENDS


def rows_by_cluster(positions: Tensor, factors: "Factors", dtype: str) -> Tensor:
    """Multiply each distinct row once, by the basis of its cluster only.

    The shapes of the k products depend on the positions.
    """
    distinct, places = sorted_unique(ops.reshape(positions, (-1,)))
    stretches = spans(factors.cluster_sizes)
    bounds = ops.searchsorted(
        distinct,
        ops.convert_to_tensor([0, *(stop for _, stop in stretches)], distinct.dtype),
    )
    bases = split(factors.read_bases(dtype), factors.ranks)
    scales = split_scales(factors.basis_scales_in(dtype), factors.ranks)
    read = factors.reader(dtype)
    blocks = []
    for c, (basis, own_scales) in enumerate(zip(bases, scales, strict=True)):
        own = distinct[bounds[c] : bounds[c + 1]] - stretches[c][0]
        rows = scaled(read(take_rows(factors.coordinates[c], own), c), own_scales)
        blocks.append(ops.matmul(rows, basis))
    rows = ops.concatenate(blocks, axis=0)
    rows = scaled(rows, factors.row_scales_at(distinct, dtype))
    return ops.reshape(
        repeat_rows(rows, places), (*ops.shape(positions), bases[0].shape[1])
    )


def rows_wide(positions: Tensor, factors: "Factors", dtype: str) -> Tensor:
    """Multiply by all bases at once, with zeros for those of other clusters."""
    read, blocks = factors.reader(dtype), []
    for c, (start, stop) in enumerate(spans(factors.cluster_sizes)):
        inside = ops.logical_and(positions >= start, positions < stop)
        places = ops.where(inside, positions - start, 0)
        rows = read(take_rows(factors.coordinates[c], places), c)
        blocks.append(ops.where(ops.expand_dims(inside, -1), rows, 0))
    wide = ops.concatenate(blocks, axis=-1)  # (..., j_1 + ... + j_k)
    if keras.backend.backend() == "jax":
        # JAX raises no error for an id out of range: its Embedding returns NaN.
        wide = ops.where(ops.expand_dims(positions, -1) < 0, float("nan"), wide)
    wide = scaled(wide, factors.basis_scales_in(dtype))
    rows = ops.matmul(wide, factors.read_bases(dtype))
    return scaled(rows, factors.row_scales_at(positions, dtype))


def split_scales(scales: Tensor | None, sizes: Sequence[int]) -> list[Tensor | None]:
    """The scales of each cluster, if there are any."""
    return [None] * len(sizes) if scales is None else split(scales, sizes)


def nan_out_of_range(rows: Tensor, ids: Tensor, n: int) -> Tensor:
    """Rows looked up by codes, with NaN for ids out of range if on JAX.

    JAX raises no error for those: its Embedding returns NaN.
    """
    if keras.backend.backend() != "jax":
        return rows
    inside = (ids >= -n) & (ids < n)
    return ops.where(ops.expand_dims(inside, -1), rows, float("nan"))
