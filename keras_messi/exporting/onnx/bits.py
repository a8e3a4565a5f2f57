"""Integers of a few bits in the bytes of an ONNX file, and back by standard operators.

They are cut into pieces of 8, 4, 2 or 1 bits, as those of 5 bits into 4 and 1. A byte
holds as many of a piece as fit, each of another stretch of the row.
"""

from collections.abc import Callable, Iterator

import numpy as np

from keras_messi.exporting.onnx.graph import Graph


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of 1, 2, 4 or 8 bits: from (n, d) to bytes (n, ceil(d * bits / 8))."""
    fit = 8 // bits
    width = -(-codes.shape[1] // fit)
    padded = np.pad(codes, ((0, 0), (0, width * fit - codes.shape[1])))
    stretches = padded.astype(np.uint8).reshape(len(codes), fit, width)
    shifts = bits * np.arange(fit, dtype=np.uint8)[:, np.newaxis]
    return np.bitwise_or.reduce(stretches << shifts, axis=1)


def unpacked(
    codes: np.ndarray, bits: int, graph: Graph, take: Callable[[str], str]
) -> str:
    """Codes of any bits as a tensor of uint8, or of int32 if they are in pieces.

    Args:
        codes: Integers from 0 on, of shape `(n, d)`.
        bits: Bits of a code.
        graph: Where the bytes and the nodes are put.
        take: Gives rows of a constant of n rows, or all.
    """
    total = ""
    for piece, below in _pieces(bits):
        own = pack(codes >> below & 2**piece - 1, piece)
        part = _unpack(take(graph.constant(own)), piece, codes.shape[1], graph)
        if bits != piece:
            weight = graph.constant(2**below, np.int32)
            part = graph.op("Mul", graph.cast(part, "INT32"), weight)
        total = graph.op("Add", total, part) if total else part
    return total


def _pieces(bits: int) -> Iterator[tuple[int, int]]:
    """Bits of each piece, and of those below it."""
    below = 0
    for piece in (8, 8, 4, 2, 1):
        if below + piece <= bits:
            yield piece, below
            below += piece


def _unpack(packed: str, bits: int, d: int, graph: Graph) -> str:
    """Codes (..., d) from bytes."""
    fit = 8 // bits
    if fit == 1:
        return packed
    size, stretches = graph.constant(2**bits, np.uint8), []
    for i in range(fit):
        stretch = packed
        if i > 0:
            shift = graph.constant(bits * i, np.uint8)
            stretch = graph.op("BitShift", packed, shift, direction="RIGHT")
        if i < fit - 1:
            stretch = graph.op("Mod", stretch, size)
        stretches.append(stretch)
    codes = graph.concat(stretches)
    if d % fit == 0:
        return codes
    bounds = (graph.constant([x], np.int64) for x in (0, d, -1))
    return graph.op("Slice", codes, *bounds)
