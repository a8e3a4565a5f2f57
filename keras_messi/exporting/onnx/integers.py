"""Products of integers in an ONNX file, with activations quantized as they come.

Each row of activations, a token, is quantized by itself, to integers between its least
and its greatest number: `x = low + step * integers`. So an answer does not depend on
what else is in the batch.

Processors without VNNI add up products of bytes in pairs, in 16 bits, and saturate
without a word. So activations have 8 bits beside weights of up to 7, and 7 beside those
of 8. Unsigned weights would do as well, and are many times slower where there is VNNI.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np

from keras_messi.exporting.forms import Form, Integers, Levels, Turned
from keras_messi.exporting.onnx.bits import unpacked
from keras_messi.exporting.onnx.graph import Graph
from keras_messi.exporting.onnx.numbers import decoded
from keras_messi.exporting.onnx.products import in_floats

# Inputs, and numbers of a matrix, from which on integers are faster than floats, for
# 16 tokens and more: what is done to each activation costs something, too. Measured on
# a CPU with VNNI.
_WORTH_INPUTS = 256
_WORTH_INTEGERS = 2**17

_LEAST_SPAN = 1e-12  # of a row of activations that are all alike


class _Weights(NamedTuple):
    """Integers to multiply by.

    Attributes:
        integers: int8 constant of shape `(n, d)`.
        bits: Their bits.
        step: What 1 stands for, a float constant that broadcasts to `(1, d)`.
    """

    integers: str
    bits: int
    step: str


class _Tokens(NamedTuple):
    """Activations as integers, uint8 `(..., n)`, and two floats each, `(..., 1)`."""

    integers: str
    step: str
    low: str


def in_integers(form: Form, graph: Graph, x: str, transposed: bool) -> str:
    """Multiply in integers by a matrix of integers or of other levels, if that pays.

    One scale a row or a column is multiplied outside. With scales in blocks the matrix
    is decoded when the file is loaded, and there rounded to 8 bits, with a scale a
    column.
    """
    inputs = form.shape[1 if transposed else 0]
    pays = inputs >= _WORTH_INPUTS and math.prod(form.shape) >= _WORTH_INTEGERS
    if not pays or not isinstance(form, Integers | Levels | Turned):
        return in_floats(form, graph, x, transposed)
    key = "integers", id(form), transposed
    if isinstance(form, Turned) or not form.has_scales_outside:
        weights = graph.once(key, partial(_rounded, form, graph, transposed))
        return _product(graph, x, weights)
    weights = graph.once(key, partial(_unscaled, form, graph, transposed))
    scales = graph.floats(form.scales.reshape(-1))
    if (form.scales.shape[1] == 1) != transposed:  # a scale for each of the inputs
        return _product(graph, graph.op("Mul", x, scales), weights)
    step = graph.op("Mul", scales, weights.step)
    return _product(graph, x, weights._replace(step=step))


def _unscaled(form: Integers | Levels, graph: Graph, transposed: bool) -> _Weights:
    """Integers without their scales, and levels as the nearest integers."""
    if isinstance(form, Levels):
        step = np.abs(form.levels).max() / 127
        values, bits = np.rint(form.levels / step), 8
        codes = unpacked(form.codes, form.bits, graph, lambda x: x)
    else:
        half, step, bits = 2 ** (form.bits - 1), 1, form.bits
        values = np.arange(-half, half)
        shifted = form.integers.astype(np.int16) + half
        codes = unpacked(shifted, bits, graph, lambda x: x)
    table = graph.constant(values, np.int8)
    integers = graph.op("Gather", table, graph.cast(codes, "INT32"), axis=0)
    integers = graph.transposed(integers) if transposed else integers
    return _Weights(integers, bits, graph.constant(step, np.float32))


def _rounded(form: Form, graph: Graph, transposed: bool) -> _Weights:
    """Any matrix in integers of 8 bits, with a scale a column."""
    matrix = decoded(form, graph)
    matrix = graph.transposed(matrix) if transposed else matrix
    peaks = graph.reduce("ReduceMax", graph.op("Abs", matrix), axis=0)
    peaks = graph.op("Max", peaks, graph.constant(_LEAST_SPAN, np.float32))
    step = graph.op("Mul", peaks, graph.constant(1 / 127, np.float32))
    rounded = graph.op("Round", graph.op("Div", matrix, step))
    return _Weights(graph.cast(rounded, "INT8"), 8, step)


def _product(graph: Graph, x: str, weights: _Weights) -> str:
    """x @ W, where x is `low + step * integers`."""
    top = 255 if weights.bits < 8 else 127
    tokens = graph.once(("tokens", x, top), partial(_quantized, graph, x, top))
    product = graph.op("MatMulInteger", tokens.integers, weights.integers)
    product = graph.op("Mul", graph.cast(product, "FLOAT"), tokens.step)
    sums = graph.reduce("ReduceSum", graph.cast(weights.integers, "FLOAT"), axis=0)
    product = graph.op("Mul", product, weights.step)
    lows = graph.op("Mul", tokens.low, graph.op("Mul", sums, weights.step))
    return graph.op("Add", product, lows)


def _quantized(graph: Graph, x: str, top: int) -> _Tokens:
    """Activations as integers from 0 to `top`."""

    def number(value: float) -> str:
        return graph.constant(value, np.float32)

    low = graph.reduce("ReduceMin", x, axis=-1)
    high = graph.reduce("ReduceMax", x, axis=-1)
    span = graph.op("Max", graph.op("Sub", high, low), number(_LEAST_SPAN))
    inverse = graph.op("Div", number(top), span)
    # A cast to integers drops what is behind the point.
    start = graph.op("Sub", number(0.5), graph.op("Mul", low, inverse))
    integers = graph.op("Add", graph.op("Mul", x, inverse), start)
    step = graph.op("Mul", span, number(1 / top))
    return _Tokens(graph.cast(integers, "UINT8"), step, low)
