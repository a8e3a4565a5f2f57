"""Rows of a matrix that is looked up in an ONNX file."""

from functools import singledispatch

import numpy as np

from keras_messi.exporting.forms import Factors, Form, Sum
from keras_messi.exporting.onnx.graph import Graph
from keras_messi.exporting.onnx.numbers import bases, clusters, positions, read


def looked_up(form: Form, graph: Graph, ids: str) -> str:
    """Rows of a matrix: from ids of any shape `(...)` to `(..., d)`."""
    flat = graph.op("Reshape", ids, graph.constant([-1], np.int64))
    rows = rows_at(form, graph, flat)
    width = graph.constant([form.shape[1]], np.int64)
    shape = graph.concat([graph.op("Shape", ids), width], axis=0)
    return graph.op("Reshape", rows, shape)


@singledispatch
def rows_at(form: Form, graph: Graph, ids: str) -> str:
    """Rows of a matrix: from `(rows,)` to `(rows, d)`."""
    return read(form, graph, lambda table: graph.op("Gather", table, ids, axis=0))


@rows_at.register
def _(form: Sum, graph: Graph, ids: str) -> str:
    return graph.sum([rows_at(term, graph, ids) for term in form.terms])


@rows_at.register
def _(form: Factors, graph: Graph, ids: str) -> str:
    """Rows of one cluster after another, each put in its place.

    So a row is multiplied by the basis of its own cluster only.
    """
    if len(form.coordinates) == 1:
        coordinates = rows_at(form.coordinates[0], graph, ids)
        return graph.op("MatMul", coordinates, bases(form, graph)[0])
    own = graph.op("Gather", clusters(form, graph), ids, axis=0)
    places = graph.op("Gather", positions(form, graph), ids, axis=0)
    width = graph.constant([form.shape[1]], np.int64)
    shape = graph.concat([graph.op("Shape", ids), width], axis=0)
    rows, start = graph.op("ConstantOfShape", shape), 0
    for c, (table, basis) in enumerate(
        zip(form.coordinates, bases(form, graph), strict=True)
    ):
        inside = graph.op("Equal", own, graph.constant(c, np.int32))
        which = graph.op("NonZero", inside)  # (1, rows of the cluster)
        which = graph.transposed(which)
        place = graph.op("GatherND", places, which)
        place = graph.op("Sub", place, graph.constant(start, np.int64))
        part = graph.op("MatMul", rows_at(table, graph, place), basis)
        rows = graph.op("ScatterND", rows, which, part)
        start += table.shape[0]
    return rows
