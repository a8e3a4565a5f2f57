"""Factors whose coordinates are looked up at once, in one table for all clusters.

A look-up in a table for each cluster takes an operation each, and at small batches time
goes by operations. In one table, all rows are as wide as the widest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np

from keras_messi.exporting.forms import Factors, Form, Integers, Sum
from keras_messi.exporting.litert.graph import Graph
from keras_messi.exporting.litert.lookups.factors import (
    NUMBERS,
    transposed_bases,
    with_ranks,
)
from keras_messi.exporting.litert.lookups.rows import rows, unsigned_rows
from keras_messi.exporting.litert.operations import (
    arithmetic,
    fully_connected,
    one_hot,
    reshape,
)

# Numbers in one table over those in a table for each cluster, at most.
_MOST_PADDING = 1.25


@dataclass(frozen=True, eq=False)
class OneTable:
    """Factors whose clusters all have the same rank j.

    Attributes:
        coordinates: Form of the coordinates of all rows, `(n, j)`.
        bases: Form of the k bases, one below the other, `(k * j, d)`.
        assignments: Cluster of each row, integers of shape `(n,)`.
    """

    coordinates: Form
    bases: Form
    assignments: np.ndarray


@singledispatch
def in_one_table(form: Any) -> Any:
    """What is looked up faster, and takes about as many bytes: the form, or another."""
    return form


@in_one_table.register
def _(form: Sum) -> Sum:
    return replace(form, terms=[in_one_table(term) for term in form.terms])


@in_one_table.register
def _(form: Factors) -> Factors | OneTable:
    width, sizes = max(form.ranks), np.array(form.sizes)
    numbers = width * sizes.sum()
    if not _are_alike(form.coordinates) or numbers > _MOST_PADDING * sizes @ form.ranks:
        return form
    if max(getattr(table, "bits", 32) for table in form.coordinates) <= 4:
        width += width % 2  # each row begins with a byte of its own
    wide = with_ranks(form, [width] * len(sizes))
    widest = wide.coordinates[int(np.argmax(form.ranks))]  # has books for all blocks
    table = _joined(widest, wide.coordinates, np.argsort(form.order))
    return OneTable(table, wide.bases, form.assignments)


def _are_alike(tables: Sequence[Form]) -> bool:
    """Whether several tables can be one."""
    kinds = {type(table) for table in tables}
    return len(tables) > 1 and len(kinds) == 1 and kinds <= set(NUMBERS)


def _joined(like: Any, tables: Sequence[Any], order: np.ndarray) -> Form:
    """Rows of all tables in an order, in the form of one of them."""
    arrays = [NUMBERS[type(like)]]
    arrays += ["scales"] if hasattr(like, "scales") else []
    changes: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables])[order]
        for name in arrays
    }
    if isinstance(like, Integers):
        changes["bits"] = max(table.bits for table in tables)
    return replace(like, **changes)


@rows.register
def _(form: OneTable, graph: Graph, tokens: int) -> int:
    """Coordinates in the columns of the own cluster, times the bases of all."""
    own = rows(form.coordinates, graph, tokens)
    count, width = graph.shape(own)[0], form.coordinates.shape[1]
    k = form.bases.shape[0] // width
    bits = max(8, (k - 1).bit_length())
    clusters = unsigned_rows(graph, form.assignments[:, np.newaxis], bits, tokens)
    inside = one_hot(graph, clusters, k)  # (tokens, k, 1)
    own = reshape(graph, own, (count, 1, width), "float32")
    wide = arithmetic(graph, "MUL", inside, own)
    wide = reshape(graph, wide, (count, form.bases.shape[0]), "float32")
    return fully_connected(graph, wide, transposed_bases(form.bases, graph))
