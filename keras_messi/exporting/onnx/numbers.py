"""Numbers of matrices in an ONNX file: constants, and the nodes that read them."""

from collections.abc import Callable
from functools import partial, singledispatch

import numpy as np

from keras_messi.exporting.forms import (
    Codes,
    Factors,
    Floats,
    Form,
    Integers,
    Levels,
    Sum,
    Turned,
)
from keras_messi.exporting.onnx.bits import unpacked
from keras_messi.exporting.onnx.graph import Graph

Take = Callable[[str], str]  # of a tensor of n rows, some or all


def decoded(form: Form, graph: Graph) -> str:
    """The matrix in floats, a constant: a runtime computes it when it loads the file.

    Where it is needed several times, it is computed once.
    """
    return graph.once(("decoded", id(form)), partial(read, form, graph, lambda x: x))


@singledispatch
def read(form: Form, graph: Graph, take: Take) -> str:
    """Rows of a matrix in floats, `(rows, d)`.

    Args:
        form: What the matrix is made of.
        graph: Where constants and nodes are put.
        take: Gives rows of a constant of n rows, or all.
    """
    raise TypeError(f"`form` must be the form of a matrix. Received: {type(form)}")


@read.register
def _(form: Floats, graph: Graph, take: Take) -> str:
    return take(graph.floats(form.numbers))


@read.register
def _(form: Integers, graph: Graph, take: Take) -> str:
    half = 2 ** (form.bits - 1)
    codes = unpacked(form.integers.astype(np.int16) + half, form.bits, graph, take)
    zeros = graph.constant(half, np.float32)
    if form.zeros is not None:
        zeros = graph.constant(form.zeros.astype(np.int16) + half, np.uint8)
        zeros = _spread(graph.cast(zeros, "FLOAT"), form, graph, take)
    numbers = graph.op("Sub", graph.cast(codes, "FLOAT"), zeros)
    return graph.op("Mul", numbers, _scales(form, graph, take))


@read.register
def _(form: Levels, graph: Graph, take: Take) -> str:
    codes = graph.cast(unpacked(form.codes, form.bits, graph, take), "INT32")
    numbers = graph.op("Gather", graph.constant(form.levels), codes, axis=0)
    return graph.op("Mul", numbers, _scales(form, graph, take))


@read.register
def _(form: Codes, graph: Graph, take: Take) -> str:
    if form.axis == 0:
        lines = _codewords(form, graph, lambda x: x)
        return take(graph.transposed(lines))
    return _codewords(form, graph, take)


def _codewords(form: Codes, graph: Graph, take: Take) -> str:
    """Lines of a matrix of codes, (lines, width)."""
    num_codebooks, num_codewords, block_size = form.codebooks.shape
    bits = max(1, (num_codewords - 1).bit_length())
    codes = graph.cast(unpacked(form.codes, bits, graph, take), "INT32")
    if num_codebooks > 1:
        starts = graph.constant(form.books * num_codewords, np.int32)
        codes = graph.op("Add", codes, starts)
    table = graph.floats(form.codebooks.reshape(-1, block_size))
    blocks = graph.op("Gather", table, codes, axis=0)
    width = form.codes.shape[1] * block_size
    return graph.op("Reshape", blocks, graph.constant([-1, width], np.int64))


@read.register
def _(form: Factors, graph: Graph, take: Take) -> str:
    pairs = zip(form.coordinates, bases(form, graph), strict=True)
    blocks = [graph.op("MatMul", decoded(u, graph), v) for u, v in pairs]
    rows = graph.concat(blocks, axis=0)
    if not form.is_grouped:
        rows = graph.op("Gather", rows, positions(form, graph), axis=0)
    return take(rows)


@read.register
def _(form: Turned, graph: Graph, take: Take) -> str:
    rotation = graph.floats(form.rotation)
    if form.axis == 1:
        turned = graph.op("MatMul", read(form.turned, graph, take), rotation)
        return graph.op("Add", turned, graph.floats(form.centre))
    back = graph.transposed(rotation)
    turned = graph.op("MatMul", back, decoded(form.turned, graph))
    return take(graph.op("Add", turned, graph.floats(form.centre[:, np.newaxis])))


@read.register
def _(form: Sum, graph: Graph, take: Take) -> str:
    return graph.sum([read(term, graph, take) for term in form.terms])


def _scales(form: Integers | Levels, graph: Graph, take: Take) -> str:
    return _spread(graph.floats(form.scales), form, graph, take)


def _spread(scales: str, form: Integers | Levels, graph: Graph, take: Take) -> str:
    """What to multiply each number of some rows by, or a shape that broadcasts to it.

    Blocks are told apart along the axis in which they lie.
    """
    n, num_blocks = form.shape[form.axis], form.scales.shape[form.axis]
    blocks = np.arange(n) // form.block_size
    if form.axis == 0:
        if num_blocks == 1:
            return scales
        return take(graph.op("Gather", scales, _indices(blocks, graph), axis=0))
    scales = take(scales)
    if num_blocks == 1:
        return scales
    return graph.op("Gather", scales, _indices(blocks, graph), axis=1)


def _indices(values: np.ndarray, graph: Graph) -> str:
    """Indices as a constant, in the file in as few bytes as they take."""
    return graph.cast(graph.constant(values, np.min_scalar_type(values.max())), "INT32")


def bases(form: Factors, graph: Graph) -> list[str]:
    """The basis of each cluster in floats, a constant."""
    whole = decoded(form.bases, graph)
    return graph.once(("bases", whole), lambda: graph.split(whole, form.ranks, axis=0))


def clusters(form: Factors, graph: Graph) -> str:
    """Cluster of each row, int32 of shape `(n,)`."""
    return _indices(form.assignments, graph)


def order(form: Factors, graph: Graph) -> str:
    """The rows cluster by cluster, int64 of shape `(n,)`."""
    return _argsort(clusters(form, graph), form, graph)


def positions(form: Factors, graph: Graph) -> str:
    """Place of each row among the rows cluster by cluster, int64 of shape `(n,)`."""
    return _argsort(order(form, graph), form, graph)


def _argsort(values: str, form: Factors, graph: Graph) -> str:
    """The stable order of n integers: of equal ones TopK takes the first first."""
    n = graph.constant([form.shape[0]], np.int64)
    return graph.once(
        ("argsort", values),
        lambda: graph.ops("TopK", 2, values, n, largest=0, sorted=1)[1],
    )
