"""Factors in LiteRT: the tables of their coordinates, and rows looked up in these."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_messi.exporting.forms import Codes, Factors, Floats, Form, Integers, Levels
from keras_messi.exporting.litert.graph import Graph
from keras_messi.exporting.litert.lookups.rows import (
    float_rows,
    has_row_scales,
    in_few_bytes,
    rows,
)
from keras_messi.exporting.litert.operations import (
    RELU,
    arithmetic,
    cast,
    concatenate,
    dequantize,
    equal,
    fully_connected,
    gather,
    split,
    unpack,
)


@rows.register
def _(form: Factors, graph: Graph, tokens: int) -> int:
    form = evened(form)
    tables, scales = without_scales(form)
    if len(tables) == 1:
        coordinates = rows(tables[0], graph, tokens)
    else:
        coordinates = _of_clusters(form, tables, graph, tokens)
    found = fully_connected(graph, coordinates, transposed_bases(form.bases, graph))
    if scales is None:
        return found
    return arithmetic(graph, "MUL", found, float_rows(graph, scales, tokens))


# What holds the numbers of a table, by its form: an array as wide as the table.
NUMBERS: dict[type, str] = {
    Floats: "numbers",
    Integers: "integers",
    Levels: "codes",
    Codes: "codes",
}


def evened(form: Factors) -> Factors:
    """The same with an even rank wherever coordinates have 4 bits.

    So that each row begins with a byte of its own, without an operation that cuts off
    what is too much.
    """
    ranks = [
        rank + rank % 2
        if isinstance(table, Integers | Levels) and table.bits <= 4
        else rank
        for table, rank in zip(form.coordinates, form.ranks, strict=True)
    ]
    return with_ranks(form, ranks)


def with_ranks(form: Factors, ranks: Sequence[int]) -> Factors:
    """The same with ranks that are as large or larger, and zeros in the bases."""
    more = np.subtract(ranks, form.ranks)
    if not more.any():
        return form
    tables = [_widened(*x) for x in zip(form.coordinates, more, strict=True)]
    stops = np.repeat(np.cumsum(form.ranks), more)
    bases: Form = Floats(np.insert(form.bases.matrix(), stops, 0, axis=0))
    if isinstance(form.bases, Integers) and has_row_scales(form.bases):
        integers = np.insert(form.bases.integers, stops, 0, axis=0)
        scales = np.insert(form.bases.scales, stops, 1, axis=0)
        bases = replace(form.bases, integers=integers, scales=scales)
    return replace(form, coordinates=tables, bases=bases)


def _widened(table: Any, more: int) -> Form:
    """A table with more columns, of any numbers: the bases have zeros for them."""
    if more == 0:
        return table
    name = NUMBERS[type(table)]
    others: dict[str, Any] = {}
    if isinstance(table, Codes):
        more //= table.codebooks.shape[2]
        others["books"] = np.pad(table.books, (0, more), "edge")
    elif isinstance(table, Integers | Levels):
        others["block_size"] = table.shape[1] + more
    others[name] = np.pad(getattr(table, name), ((0, 0), (0, more)))
    return replace(table, **others)


def without_scales(form: Factors) -> tuple[list[Form], np.ndarray | None]:
    """Tables of coordinates with one scale each, and what is left for the rows.

    That is stored in few bytes, `(n, 1)`.
    """
    tables = list(form.coordinates)
    scaled = [
        table
        for table in tables
        if isinstance(table, Integers | Levels) and has_row_scales(table)
    ]
    if len(scaled) < len(tables):
        return tables, None
    scales = np.empty((form.shape[0], 1), np.float32)
    scales[form.order] = np.concatenate([table.scales for table in scaled])
    stored, share = in_few_bytes(scales)
    one = np.float32(share)
    return [replace(x, scales=np.full_like(x.scales, one)) for x in scaled], stored


def _of_clusters(form: Factors, tables: list[Form], graph: Graph, tokens: int) -> int:
    """Coordinates in all clusters: zeros in those that a row is not in."""
    sizes = np.array(form.sizes, np.float32)
    starts = np.cumsum([0, *sizes[:-1] + 2]).astype(np.float32)  # with the rims
    inner = gather_places(form, graph, tokens, starts)
    # Before a cluster comes its first rim, and after it its last.
    inner = arithmetic(graph, "MINIMUM", inner, graph.constant(sizes + 1))
    own = unpack(graph, cast(graph, inner, "int32"), "int32", axis=1)
    parts = [
        rows(table, graph, places)
        for table, places in zip(with_rims(tables), own, strict=True)
    ]
    if not all(isinstance(table, Floats | Integers) for table in tables):
        parts = _without_rims(form, graph, parts, inner)
    return concatenate(graph, parts, axis=1)


def gather_places(form: Factors, graph: Graph, tokens: int, starts: np.ndarray) -> int:
    """Places of rows among all rows sorted by cluster, less some starts, but no less.

    There are two more rows in each cluster: the first one, and the last. Float32 of
    shape `(tokens, starts)`.
    """
    places = np.argsort(form.order) + 2 * form.assignments.astype(np.int64) + 1
    bits = int(places.max()).bit_length()
    planes = [places >> shift & 255 for shift in range(0, bits, 8)]
    table = graph.constant(np.stack(planes, axis=1).astype(np.uint8))
    found = cast(graph, gather(graph, table, tokens, "uint8"), "float32")
    weights = np.tile(256.0 ** np.arange(len(planes)), (len(starts), 1))
    return fully_connected(
        graph,
        found,
        graph.constant(weights.astype(np.float32)),
        graph.constant(-starts),
        RELU,
    )


def with_rims(tables: Sequence[Form]) -> list[Form]:
    """Tables with a row more before their rows and after, of zeros if there is a zero.

    What is looked up in a table that a token is not in is one of these.
    """
    return [_with_rims(table) for table in tables]


def _with_rims(table: Form) -> Form:
    rim = ((1, 1), (0, 0))
    if isinstance(table, Floats):
        return Floats(np.pad(table.numbers, rim))
    if isinstance(table, Codes):
        return replace(table, codes=np.pad(table.codes, rim, "edge"))
    if not isinstance(table, Integers | Levels):
        return Floats(np.pad(table.matrix(), rim))
    scales = np.pad(table.scales, rim, "edge")
    if isinstance(table, Levels):
        return replace(table, codes=np.pad(table.codes, rim, "edge"), scales=scales)
    return replace(table, integers=np.pad(table.integers, rim), scales=scales)


def _without_rims(
    form: Factors, graph: Graph, parts: Sequence[int], inner: int
) -> list[int]:
    """Coordinates with zeros where a rim was looked up that holds something else."""
    last = graph.constant(np.array(form.sizes, np.float32))
    one = graph.constant(np.ones(1, np.float32))
    clipped = arithmetic(graph, "MAXIMUM", inner, one)
    clipped = arithmetic(graph, "MINIMUM", clipped, last)
    inside = cast(graph, equal(graph, inner, clipped), "float32")
    own = split(graph, inside, [1] * len(parts))  # (tokens, 1) each
    return [
        arithmetic(graph, "MUL", part, x) for part, x in zip(parts, own, strict=True)
    ]


def transposed_bases(bases: Form, graph: Graph) -> int:
    """All bases, which are one below the other, transposed: `(d, j_1 + ... + j_k)`.

    Those of 4 bits are stored in 8, or they would be decoded at every call.
    """
    if not (isinstance(bases, Integers) and has_row_scales(bases)):
        return graph.constant(np.ascontiguousarray(bases.matrix().T))
    integers = np.ascontiguousarray(bases.integers.T)
    return dequantize(graph, graph.integers(integers, 8, bases.scales[:, 0], axis=1))
