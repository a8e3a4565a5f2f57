"""Matrices of all forms in LiteRT: multiplied, and their rows looked up.

Dense layers multiply with integers of 8 or 4 bits, a scale for each unit: LiteRT then
rounds their inputs to 8 bits a number. What it has no fast operation for is made
floats, once, when the file is loaded. Rows are looked up as they are stored.
"""

from functools import singledispatch
from typing import NamedTuple

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
    transposed,
)
from keras_messi.exporting.litert.graph import Graph
from keras_messi.exporting.litert.lookups.factors import (
    evened,
    gather_places,
    transposed_bases,
    with_rims,
    without_scales,
)
from keras_messi.exporting.litert.lookups.rows import (
    all_rows,
    constant_floats,
    has_row_scales,
    in_few_bytes,
    stored_bits,
)
from keras_messi.exporting.litert.operations import (
    LINEAR,
    arithmetic,
    cast,
    concatenate,
    dequantize,
    fully_connected,
    gather,
    numbers_up_to,
    reshape,
    split,
    total,
    transpose,
)


class End(NamedTuple):
    """What a Dense layer does to its products.

    Attributes:
        factors: What to multiply them by, float32 of shape `(units,)`, if anything.
        bias: The tensor to add, if any.
        activation: The activation, as LiteRT numbers those that it fuses.
    """

    factors: np.ndarray | None = None
    bias: int | None = None
    activation: int = LINEAR


PLAIN = End()


@singledispatch
def multiply(form: Form, graph: Graph, x: int, end: End = PLAIN) -> int:
    """x @ matrix, then the end: from `(..., n)` to `(..., d)`.

    By default the matrix is made floats when the file is loaded.
    """
    weights = graph.loaded(form, lambda load: _columns(form, load))
    return _connected(graph, x, weights, end)


def _columns(form: Form, load: Graph) -> int:
    """The transpose of the matrix in floats, `(d, n)`."""
    if _is_cut_along_columns(form):
        return all_rows(transposed(form), load)
    return transpose(load, all_rows(form, load))


def matrix(form: Form, load: Graph) -> int:
    """The matrix in floats, `(n, d)`, to be computed when the file is loaded."""
    if _is_cut_along_columns(form):
        return transpose(load, all_rows(transposed(form), load))
    return all_rows(form, load)


def _is_cut_along_columns(form: Form) -> bool:
    """Whether blocks are stretches of columns, so that rows can't be read by one."""
    return isinstance(form, Codes | Integers | Levels) and form.axis == 0


def _connected(graph: Graph, x: int, weights: int, end: End) -> int:
    """Products with weights `(units, n)`, then the end."""
    if end.factors is None:
        return fully_connected(graph, x, weights, end.bias, end.activation)
    return ended(graph, fully_connected(graph, x, weights), end)


def ended(graph: Graph, products: int, end: End) -> int:
    """The end of products that no operation has in it."""
    steps = []
    if end.factors is not None:
        steps.append(("MUL", graph.constant(end.factors)))
    if end.bias is not None:
        steps.append(("ADD", end.bias))
    elif end.activation and not steps:
        steps.append(("ADD", graph.constant(np.zeros(1, np.float32))))
    for number, (name, other) in enumerate(steps, 1):
        activation = end.activation if number == len(steps) else LINEAR
        products = arithmetic(graph, name, products, other, activation)
    return products


@multiply.register
def _(form: Floats, graph: Graph, x: int, end: End = PLAIN) -> int:
    weights = graph.constant(np.ascontiguousarray(form.numbers.T))
    return _connected(graph, x, weights, end)


@multiply.register
def _(form: Integers, graph: Graph, x: int, end: End = PLAIN) -> int:
    if has_row_scales(form):
        stored, share = in_few_bytes(form.scales[:, 0])
        if np.any(stored != 1):
            x = arithmetic(graph, "MUL", x, constant_floats(graph, stored))
        shares = np.full(form.shape[1], share, np.float32)
        return _by_unit(form.integers, form.bits, shares, graph, x, end)
    if form.has_scales_outside:
        return _by_unit(form.integers, form.bits, form.scales[0], graph, x, end)
    if form.axis == 0:
        return _by_block(form, graph, x, end)
    return multiply.dispatch(object)(form, graph, x, end)


def _by_unit(
    integers: np.ndarray,
    bits: int,
    scales: np.ndarray,
    graph: Graph,
    x: int,
    end: End = PLAIN,
) -> int:
    """Products with integers `(n, d)` that have a scale for each column."""
    if end.factors is not None:
        scales = scales * end.factors
    integers = np.where(scales == 0, 0, integers).astype(np.int8)
    sizes = np.where(scales == 0, 1, np.abs(scales)).astype(np.float32)
    columns = np.ascontiguousarray(integers.T)
    weights = graph.integers(columns, stored_bits(bits), sizes)
    if np.all(scales >= 0):
        return fully_connected(graph, x, weights, end.bias, end.activation)
    # The operation takes none but positive scales: it computes the negatives.
    signs = np.where(scales < 0, -1, 1).astype(np.int8)
    # A bias that the converter has put into a product is a constant.
    bias = None if end.bias is None else graph.read(end.bias)
    turned = None if bias is None else graph.constant(bias * signs)
    products = fully_connected(graph, x, weights, turned)
    stored = graph.integers(signs[np.newaxis], 8, np.ones(1, np.float32))
    factors = dequantize(graph, stored)
    return arithmetic(graph, "MUL", products, factors, end.activation)


def _by_block(form: Integers, graph: Graph, x: int, end: End) -> int:
    """Products with integers that have scales for blocks of rows: a sum of products."""
    starts = np.arange(0, form.shape[0], form.block_size)
    blocks = np.split(form.integers, starts[1:])
    sizes = [len(block) for block in blocks]
    parts = [
        _by_unit(block, form.bits, scales, graph, part)
        for block, scales, part in zip(
            blocks, form.scales, split(graph, x, sizes), strict=True
        )
    ]
    if form.zeros is not None:
        parts.append(_shifts(-form.zeros * form.scales, graph, x, sizes))
    return ended(graph, total(graph, parts), end)


def _shifts(shifts: np.ndarray, graph: Graph, x: int, sizes: list[int]) -> int:
    """Sums of the inputs of blocks, times the shifts of the blocks `(blocks, d)`."""
    numbers = np.arange(len(sizes))
    which = (np.repeat(numbers, sizes) == numbers[:, np.newaxis]).astype(np.int8)
    ones = dequantize(graph, graph.integers(which, 8, np.ones(1, np.float32)))
    sums = fully_connected(graph, x, ones)  # (..., blocks)
    return fully_connected(graph, sums, graph.constant(np.ascontiguousarray(shifts.T)))


@multiply.register
def _(form: Factors, graph: Graph, x: int, end: End = PLAIN) -> int:
    form = evened(form)
    tables, scales = without_scales(form)
    if scales is not None:
        x = arithmetic(graph, "MUL", x, constant_floats(graph, scales[:, 0]))
    if not form.is_grouped:
        order = graph.constant(form.order.astype(np.int32))
        x = gather(graph, x, order, "float32", axis=len(graph.shape(x)) - 1)
    parts = split(graph, x, form.sizes)
    blocks = [
        multiply(table, graph, part) for table, part in zip(tables, parts, strict=True)
    ]
    coordinates = concatenate(graph, blocks, axis=len(graph.shape(x)) - 1)
    return multiply(form.bases, graph, coordinates, end)


@multiply.register
def _(form: Sum, graph: Graph, x: int, end: End = PLAIN) -> int:
    terms = [multiply(term, graph, x) for term in form.terms]
    return ended(graph, total(graph, terms), end)


@multiply.register
def _(form: Turned, graph: Graph, x: int, end: End = PLAIN) -> int:
    if form.axis == 1:
        return multiply.dispatch(object)(form, graph, x, end)
    turned = fully_connected(graph, x, graph.constant(form.rotation))
    products = multiply(form.turned, graph, turned)
    centre = graph.constant(form.centre[np.newaxis])
    shift = fully_connected(graph, x, centre)  # (..., 1)
    return ended(graph, arithmetic(graph, "ADD", products, shift), end)


@singledispatch
def multiply_transposed(form: Form, graph: Graph, x: int, end: End = PLAIN) -> int:
    """x @ matrix.T, then the end: from `(..., d)` to `(..., n)`.

    By default the matrix is made floats when the file is loaded.
    """
    weights = graph.loaded(form, lambda load: all_rows(form, load))
    return _connected(graph, x, weights, end)


@multiply_transposed.register
def _(form: Integers, graph: Graph, x: int, end: End = PLAIN) -> int:
    """Products with the rows of a table, in the bytes that they are looked up in."""
    if form.axis == 0 or form.scales.shape[1] > 1:
        return multiply_transposed.dispatch(object)(form, graph, x, end)
    stored, share = in_few_bytes(form.scales[:, 0])
    scale = np.array([share], np.float32)
    weights = graph.integers(form.integers, stored_bits(form.bits), scale)
    if form.bits <= 4:
        # Multiplied by as they are, they need a scale and a zero for each row.
        weights = dequantize(graph, weights)
    if np.all(stored == 1) and form.zeros is None:
        return _connected(graph, x, weights, end)
    products = fully_connected(graph, x, weights)
    if form.zeros is not None:
        ones = graph.constant(np.full((1, form.shape[1]), share, np.float32))
        zeros = graph.integers(form.zeros[:, 0], 8, np.ones(1, np.float32))
        shift = fully_connected(graph, x, ones)  # (..., 1)
        shift = arithmetic(graph, "MUL", shift, dequantize(graph, zeros))
        products = arithmetic(graph, "SUB", products, shift)
    scales = constant_floats(graph, stored)
    return ended(graph, arithmetic(graph, "MUL", products, scales), end)


@multiply_transposed.register
def _(form: Factors, graph: Graph, x: int, end: End = PLAIN) -> int:
    form = evened(form)
    tables, scales = without_scales(form)
    bases = transpose(graph, transposed_bases(form.bases, graph))
    coordinates = fully_connected(graph, x, bases)
    parts = split(graph, coordinates, form.ranks)
    if len(tables) == 1:
        products = multiply_transposed(tables[0], graph, parts[0])
    else:
        products = _of_clusters(form, tables, graph, parts)
    if scales is not None:
        by_row = constant_floats(graph, scales[:, 0])
        products = arithmetic(graph, "MUL", products, by_row)
    return ended(graph, products, end)


def _of_clusters(
    form: Factors, tables: list[Form], graph: Graph, parts: list[int]
) -> int:
    """Products with the rows of all tables, in the order of the matrix."""
    blocks = [
        multiply_transposed(table, graph, part)
        for table, part in zip(with_rims(tables), parts, strict=True)
    ]
    last = len(graph.shape(parts[0])) - 1
    products = concatenate(graph, blocks, axis=last)

    def places(load: Graph) -> int:
        tokens, start = numbers_up_to(load, form.shape[0]), np.zeros(1, np.float32)
        found = gather_places(form, load, tokens, start)  # (n, 1)
        return cast(load, reshape(load, found, (form.shape[0],), "float32"), "int32")

    order = graph.loaded(form, places, "int32")
    return gather(graph, products, order, "float32", axis=last)


@multiply_transposed.register
def _(form: Sum, graph: Graph, x: int, end: End = PLAIN) -> int:
    terms = [multiply_transposed(term, graph, x) for term in form.terms]
    return ended(graph, total(graph, terms), end)
