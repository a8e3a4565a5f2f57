"""Rows of matrices of all forms, looked up in LiteRT as they are stored.

`rows(form, graph, tokens)` gives `(tokens, d)` for int32 ids `(tokens,)`.
"""

from functools import singledispatch
from typing import Any

import numpy as np

from keras_messi.exporting.forms import (
    Codes,
    Floats,
    Form,
    Integers,
    Levels,
    Sum,
    Turned,
)
from keras_messi.exporting.litert.graph import Graph
from keras_messi.exporting.litert.operations import (
    arithmetic,
    cast,
    dequantize,
    from_float16,
    fully_connected,
    gather,
    look_up,
    numbers_up_to,
    reshape,
    split,
    total,
)


@singledispatch
def rows(form: Any, graph: Graph, tokens: int) -> int:
    """Rows of a matrix, by default of one in floats."""
    return rows(Floats(form.matrix()), graph, tokens)


def all_rows(form: Form, graph: Graph) -> int:
    """The matrix itself, `(n, d)`."""
    return rows(form, graph, numbers_up_to(graph, form.shape[0]))


@rows.register
def _(form: Floats, graph: Graph, tokens: int) -> int:
    return look_up(graph, graph.constant(form.numbers), tokens)


@rows.register
def _(form: Integers, graph: Graph, tokens: int) -> int:
    if form.axis == 0 and len(form.scales) > 1:
        return rows(Floats(form.matrix()), graph, tokens)
    stored, share = in_few_bytes(form.scales)
    numbers = integer_rows(graph, form.integers, form.bits, tokens, share)
    if form.zeros is not None:
        zeros = integer_rows(graph, form.zeros, 8, tokens, share)
        zeros = _of_blocks(graph, form, zeros)
        numbers = arithmetic(graph, "SUB", numbers, zeros)
    return _scaled(graph, numbers, form, stored, tokens)


def stored_bits(bits: int) -> int:
    """Bits that integers of so many take in LiteRT."""
    return 4 if bits <= 4 else 8


def integer_rows(
    graph: Graph, integers: np.ndarray, bits: int, tokens: int, scale: float = 1
) -> int:
    """Rows of a table of signed integers times a scale, as float32."""
    scales, bits = np.array([scale], np.float32), stored_bits(bits)
    width = integers.shape[1]
    # In 4 bits, a row must begin with a byte of its own.
    wide = np.pad(integers, ((0, 0), (0, width % 2 if bits == 4 else 0)))
    found = look_up(graph, graph.integers(wide, bits, scales), tokens)
    return split(graph, found, [width, *[1] * (wide.shape[1] - width)])[0]


def _scaled(
    graph: Graph, numbers: int, form: Integers | Levels, scales: np.ndarray, tokens: int
) -> int:
    """Numbers of rows, times the scales of a form, as they are stored."""
    if np.all(scales == 1):
        return numbers
    if form.axis == 0:
        return arithmetic(graph, "MUL", numbers, constant_floats(graph, scales))
    own = _of_blocks(graph, form, float_rows(graph, scales, tokens))
    return arithmetic(graph, "MUL", numbers, own)


def _of_blocks(graph: Graph, form: Integers | Levels, values: int) -> int:
    """Values of the blocks of rows, in a shape that broadcasts to that of the rows."""
    if form.scales.shape[1] == 1:
        return values
    blocks = np.arange(form.shape[1]) // form.block_size
    places = graph.constant(blocks.astype(np.int32))
    return gather(graph, values, places, "float32", axis=1)


def has_row_scales(form: Integers | Levels) -> bool:
    """Whether there is a scale for each row, and nothing else."""
    return form.has_scales_outside and form.scales.shape[1] == 1


def in_few_bytes(numbers: np.ndarray) -> tuple[np.ndarray, float]:
    """Numbers in float16 if that holds them, and what they are to be multiplied by.

    That is a power of two, which keeps small numbers out of the range in which float16
    is coarse. Of equal positive numbers it is the number, and they are ones.
    """
    if numbers.flat[0] > 0 and np.all(numbers == numbers.flat[0]):
        return np.ones_like(numbers, np.float32), float(numbers.flat[0])
    for power in (1.0, 8.0, 128.0):
        halves = (numbers * np.float32(power)).astype(np.float16)
        if np.array_equal(halves.astype(np.float32) / np.float32(power), numbers):
            return halves, 1 / power
    return numbers, 1.0


def float_rows(graph: Graph, stored: np.ndarray, tokens: int) -> int:
    """Rows of a table of float16 or float32, as float32."""
    if stored.dtype == np.float32:
        return gather(graph, graph.constant(stored), tokens, "float32")
    bits = graph.constant(stored.view(np.int16))
    return from_float16(graph, gather(graph, bits, tokens, "int16"))


def constant_floats(graph: Graph, stored: np.ndarray) -> int:
    """A constant of float16 or float32, as float32."""
    constant = graph.constant(stored)
    return constant if stored.dtype == np.float32 else dequantize(graph, constant)


@rows.register
def _(form: Levels, graph: Graph, tokens: int) -> int:
    if form.axis == 0 and len(form.scales) > 1:
        return rows(Floats(form.matrix()), graph, tokens)
    codes = unsigned_rows(graph, form.codes, form.bits, tokens)
    stored, share = in_few_bytes(form.scales)
    levels = graph.constant(form.levels * np.float32(share))
    numbers = gather(graph, levels, codes, "float32")
    return _scaled(graph, numbers, form, stored, tokens)


def unsigned_rows(graph: Graph, numbers: np.ndarray, bits: int, tokens: int) -> int:
    """Rows of a table of integers from 0 to 2^bits - 1, as int32."""
    if bits <= 4:
        signed = integer_rows(graph, numbers.astype(np.int8) - np.int8(8), 4, tokens)
        eight = graph.constant(np.array([8], np.float32))
        found = arithmetic(graph, "ADD", signed, eight)
        return cast(graph, found, "int32")
    if bits <= 8:
        table = graph.constant(numbers.astype(np.uint8))
        return cast(graph, gather(graph, table, tokens, "uint8"), "int32")
    low = unsigned_rows(graph, numbers & 255, 8, tokens)
    high = unsigned_rows(graph, numbers >> 8, bits - 8, tokens)
    whole = graph.constant(np.array([256], np.int32))
    high = arithmetic(graph, "MUL", high, whole, dtype="int32")
    return arithmetic(graph, "ADD", low, high, dtype="int32")


@rows.register
def _(form: Codes, graph: Graph, tokens: int) -> int:
    if form.axis == 0:
        return rows(Floats(form.matrix()), graph, tokens)
    num_words, block_size = form.codebooks.shape[1:]
    bits = max(1, (num_words - 1).bit_length())
    codes = unsigned_rows(graph, form.codes, bits, tokens)
    starts = (form.books * num_words).astype(np.int32)
    if np.any(starts):
        codes = arithmetic(graph, "ADD", codes, graph.constant(starts), dtype="int32")
    words = graph.constant(form.codebooks.reshape(-1, block_size))
    blocks = gather(graph, words, codes, "float32")  # (tokens, num_blocks, block_size)
    shape = graph.shape(tokens)[0], form.shape[1]
    return reshape(graph, blocks, shape, "float32")


@rows.register
def _(form: Sum, graph: Graph, tokens: int) -> int:
    return total(graph, [rows(term, graph, tokens) for term in form.terms])


@rows.register
def _(form: Turned, graph: Graph, tokens: int) -> int:
    if form.axis == 0:
        return rows(Floats(form.matrix()), graph, tokens)
    turned = rows(form.turned, graph, tokens)
    back = graph.constant(np.ascontiguousarray(form.rotation.T))
    return fully_connected(graph, turned, back, graph.constant(form.centre))
