"""Activations times a matrix, or its transpose, in an ONNX file.

What multiplies a matrix that is no product itself is a function, `in_floats` here or
`in_integers` of the next module.
"""

import math
from collections.abc import Callable
from functools import singledispatch

from keras_messi.exporting.forms import Factors, Form, Sum
from keras_messi.exporting.onnx.graph import Graph
from keras_messi.exporting.onnx.numbers import decoded, order, positions

# Form, graph, activations (..., n), and whether the matrix is to be transposed.
Multiply = Callable[[Form, Graph, str, bool], str]

# Numbers of a matrix from which on k pairs of factors are multiplied one by one. They
# take fewer products, but gathers and copies; a gather of outputs costs most. Measured
# on a CPU, for k = 3 and 5 and a fifth of the parameters.
_WORTH_FACTORS = 2**19
_WORTH_FACTORS_TRANSPOSED = 2**22


def in_floats(form: Form, graph: Graph, x: str, transposed: bool) -> str:
    """Multiply by the matrix in floats, decoded when the file is loaded."""
    matrix = decoded(form, graph)
    if transposed:
        matrix = graph.transposed(matrix)
    return graph.op("MatMul", x, matrix)


def _pay(form: Factors, size: int) -> bool:
    """Whether factors are faster than the matrix."""
    return len(form.coordinates) == 1 or math.prod(form.shape) >= size


@singledispatch
def times(form: Form, graph: Graph, x: str, multiply: Multiply) -> str:
    """x @ A: from `(..., n)` to `(..., d)`."""
    return multiply(form, graph, x, False)


@times.register
def _(form: Factors, graph: Graph, x: str, multiply: Multiply) -> str:
    if not _pay(form, _WORTH_FACTORS):
        return in_floats(form, graph, x, False)
    if not form.is_grouped:
        x = graph.op("Gather", x, order(form, graph), axis=-1)
    parts = zip(graph.split(x, form.sizes), form.coordinates, strict=True)
    blocks = [times(table, graph, part, multiply) for part, table in parts]
    return times(form.bases, graph, graph.concat(blocks), multiply)


@times.register
def _(form: Sum, graph: Graph, x: str, multiply: Multiply) -> str:
    return graph.sum([times(term, graph, x, multiply) for term in form.terms])


@singledispatch
def times_transposed(form: Form, graph: Graph, x: str, multiply: Multiply) -> str:
    """x @ A.T: from `(..., d)` to `(..., n)`."""
    return multiply(form, graph, x, True)


@times_transposed.register
def _(form: Factors, graph: Graph, x: str, multiply: Multiply) -> str:
    if not _pay(form, _WORTH_FACTORS_TRANSPOSED):
        return in_floats(form, graph, x, True)
    parts = graph.split(times_transposed(form.bases, graph, x, multiply), form.ranks)
    blocks = [
        times_transposed(table, graph, part, multiply)
        for part, table in zip(parts, form.coordinates, strict=True)
    ]
    products = graph.concat(blocks)
    if form.is_grouped:
        return products
    return graph.op("Gather", products, positions(form, graph), axis=-1)


@times_transposed.register
def _(form: Sum, graph: Graph, x: str, multiply: Multiply) -> str:
    terms = (times_transposed(term, graph, x, multiply) for term in form.terms)
    return graph.sum(list(terms))
