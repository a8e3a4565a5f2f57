"""Two ways to read rows of a table that is stored as k pairs of factors.

Both take the positions of the rows among all rows sorted by cluster, the coordinates
`U_c` of shape `(n_c, j_c)`, and the bases, of shape `(j_1 + ... + j_k, d)`, and return
rows of shape `(*positions.shape, d)`. They agree in values and in gradients.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

from keras_messi.layers._backend import (
    repeat_rows,
    sorted_unique,
    spans,
    split,
    take_rows,
)

Tensor = Any

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


def rows_by_cluster(
    positions: Tensor, coordinates: Sequence[Tensor], bases: Tensor, dtype: str
) -> Tensor:
    """Multiply each distinct row once, by the basis of its cluster only.

    The shapes of the k products depend on the positions.
    """
    distinct, places = sorted_unique(ops.reshape(positions, (-1,)))
    stretches = spans([table.shape[0] for table in coordinates])
    bounds = ops.searchsorted(
        distinct,
        ops.convert_to_tensor([0, *(stop for _, stop in stretches)], distinct.dtype),
    )
    blocks = []
    for c, basis in enumerate(split(bases, [u.shape[1] for u in coordinates])):
        own = distinct[bounds[c] : bounds[c + 1]] - stretches[c][0]
        rows = take_rows(coordinates[c], own)  # gathered first, and cast after
        blocks.append(ops.matmul(ops.cast(rows, dtype), ops.cast(basis, dtype)))
    rows = repeat_rows(ops.concatenate(blocks, axis=0), places)
    return ops.reshape(rows, (*ops.shape(positions), bases.shape[1]))


def rows_wide(
    positions: Tensor, coordinates: Sequence[Tensor], bases: Tensor, dtype: str
) -> Tensor:
    """Multiply by all bases at once, with zeros for those of other clusters."""
    blocks = []
    for table, (start, stop) in zip(
        coordinates, spans([table.shape[0] for table in coordinates]), strict=True
    ):
        inside = ops.logical_and(positions >= start, positions < stop)
        rows = take_rows(table, ops.where(inside, positions - start, 0))
        blocks.append(ops.where(ops.expand_dims(inside, -1), rows, 0))
    wide = ops.concatenate(blocks, axis=-1)  # (..., j_1 + ... + j_k)
    if keras.backend.backend() == "jax":
        # JAX raises no error for an id out of range: its Embedding returns NaN.
        wide = ops.where(ops.expand_dims(positions, -1) < 0, float("nan"), wide)
    return ops.matmul(ops.cast(wide, dtype), ops.cast(bases, dtype))
