"""Operations of LiteRT that small matrices are read and multiplied with."""

import math
from collections.abc import Sequence

import numpy as np

from keras_messi.exporting.litert.graph import INT32, Graph, Shape

# Activations, as the options of operations number them.
LINEAR, RELU = 0, 1


def fully_connected(
    graph: Graph, x: int, weights: int, bias: int | None = None, activation: int = 0
) -> int:
    """x @ weights.T + bias, from `(..., n)` to `(..., units)`."""
    shape = graph.shape(x)
    (result,) = graph.apply(
        "FULLY_CONNECTED",
        [x, weights, bias],
        ("float32", (*shape[:-1], graph.shape(weights)[0])),
        version=12,  # integers with a scale for each unit
        kind="FullyConnectedOptions",
        keepNumDims=len(shape) > 2,
        fusedActivationFunction=activation,
        asymmetricQuantizeInputs=True,
    )
    return result


def gather(graph: Graph, table: int, places: int, dtype: str, axis: int = 0) -> int:
    """Slices of a tensor along an axis."""
    shape = graph.shape(table)
    found = (*shape[:axis], *graph.shape(places), *shape[axis + 1 :])
    version = {"int8": 2, "int16": 4}.get(dtype, 1)
    (result,) = graph.apply(
        "GATHER",
        [table, places],
        (dtype, found),
        version=version,
        kind="GatherOptions",
        axis=axis,
    )
    return result


def one_hot(graph: Graph, numbers: int, size: int) -> int:
    """Ones at numbers below the size, otherwise zeros: from `(n, 1)` to `(n, size, 1)`.

    Args:
        graph: The graph.
        numbers: A tensor of int32.
        size: The size.
    """
    given = [
        numbers,
        graph.constant(np.array(size, np.int32)),
        graph.constant(np.array(1, np.float32)),
        graph.constant(np.array(0, np.float32)),
    ]
    shape = (graph.shape(numbers)[0], size, 1)
    (result,) = graph.apply(
        "ONE_HOT", given, ("float32", shape), kind="OneHotOptions", axis=1
    )
    return result


def look_up(graph: Graph, table: int, places: int) -> int:
    """Rows of a table of floats, or of integers times their scales."""
    found = (*graph.shape(places), graph.shape(table)[1])
    (result,) = graph.apply(
        "EMBEDDING_LOOKUP", [places, table], ("float32", found), version=4
    )
    return result


def dequantize(graph: Graph, integers: int) -> int:
    """Integers times their scales, once, when the file is loaded."""
    (result,) = graph.apply(
        "DEQUANTIZE", [integers], ("float32", graph.shape(integers)), version=6
    )
    return result


def cast(graph: Graph, x: int, dtype: str, version: int = 1) -> int:
    """A tensor in another dtype."""
    (result,) = graph.apply("CAST", [x], (dtype, graph.shape(x)), version=version)
    return result


def from_float16(graph: Graph, x: int) -> int:
    """Numbers of float16, given as int16 of the same bits, as float32.

    LiteRT gathers no float16.
    """
    (numbers,) = graph.apply("BITCAST", [x], ("float16", graph.shape(x)))
    return cast(graph, numbers, "float32", version=5)


def reshape(graph: Graph, x: int, shape: Shape, dtype: str) -> int:
    """A tensor in another shape, of which one side may be unknown."""
    sides = np.array([-1 if side is None else side for side in shape], np.int32)
    (result,) = graph.apply("RESHAPE", [x, graph.constant(sides)], (dtype, shape))
    return result


def transpose(graph: Graph, x: int, dtype: str = "float32") -> int:
    """The transpose of a tensor of two axes."""
    axes = graph.constant(np.array([1, 0], np.int32))
    (result,) = graph.apply("TRANSPOSE", [x, axes], (dtype, graph.shape(x)[::-1]))
    return result


def permute(graph: Graph, x: int, axes: Sequence[int]) -> int:
    """A tensor of floats with its axes in another order."""
    shape = graph.shape(x)
    order = graph.constant(np.array(axes, np.int32))
    (result,) = graph.apply(
        "TRANSPOSE", [x, order], ("float32", tuple(shape[axis] for axis in axes))
    )
    return result


def rows_as(graph: Graph, rows: int, ids: int) -> int:
    """Rows `(tokens, d)` in the shape of the ids: `(..., d)`."""
    shape, width = graph.shape(ids), graph.shape(rows)[1]
    if shape.count(None) <= 1:
        return reshape(graph, rows, (*shape, width), "float32")
    (sides,) = graph.apply(
        "SHAPE", [ids], ("int32", (len(shape),)), kind="ShapeOptions", outType=INT32
    )
    wide = graph.constant(np.array([width], np.int32))
    sides = concatenate(graph, [sides, wide], 0, "int32")
    (result,) = graph.apply("RESHAPE", [rows, sides], ("float32", (*shape, width)))
    return result


def flat(graph: Graph, ids: int) -> int:
    """All ids one after another."""
    sides = [side for side in graph.shape(ids) if side is not None]
    size = math.prod(sides) if len(sides) == len(graph.shape(ids)) else None
    return reshape(graph, ids, (size,), "int32")


def concatenate(
    graph: Graph, parts: Sequence[int], axis: int, dtype: str = "float32"
) -> int:
    """Tensors one after another along an axis."""
    if len(parts) == 1:
        return parts[0]
    shape = list(graph.shape(parts[0]))
    shape[axis] = sum(graph.shape(part)[axis] or 0 for part in parts)
    (result,) = graph.apply(
        "CONCATENATION",
        parts,
        (dtype, tuple(shape)),
        kind="ConcatenationOptions",
        axis=axis,
    )
    return result


def split(graph: Graph, x: int, sizes: Sequence[int]) -> list[int]:
    """Stretches of the last axis."""
    if len(sizes) == 1:
        return [x]
    *shape, _ = graph.shape(x)
    stops = graph.constant(np.array(sizes, np.int32))
    axis = graph.constant(np.array(len(shape), np.int32))
    outputs = [("float32", (*shape, size)) for size in sizes]
    return graph.apply(
        "SPLIT_V",
        [x, stops, axis],
        *outputs,
        kind="SplitVOptions",
        numSplits=len(sizes),
    )


def unpack(graph: Graph, x: int, dtype: str, axis: int) -> list[int]:
    """The slices of a tensor along an axis of a known size."""
    shape = list(graph.shape(x))
    size = shape.pop(axis)
    outputs = [(dtype, tuple(shape)) for _ in range(size or 0)]
    return graph.apply(
        "UNPACK", [x], *outputs, kind="UnpackOptions", num=size, axis=axis
    )


# Of two tensors, number by number.
_ARITHMETIC = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MAXIMUM": "MaximumMinimumOptions",
}


def arithmetic(
    graph: Graph,
    name: str,
    x: int,
    y: int,
    activation: int = LINEAR,
    dtype: str = "float32",
) -> int:
    """Two tensors, number by number, of shapes that broadcast."""
    kind = _ARITHMETIC[name]
    options = {"fusedActivationFunction": activation} if activation else {}
    shape = _broadcast(graph.shape(x), graph.shape(y))
    (result,) = graph.apply(name, [x, y], (dtype, shape), kind=kind, **options)
    return result


def _broadcast(one: Shape, other: Shape) -> Shape:
    if len(one) < len(other):
        one, other = other, one
    other = (1,) * (len(one) - len(other)) + other
    return tuple(b if a == 1 else a for a, b in zip(one, other, strict=True))


def total(graph: Graph, terms: Sequence[int]) -> int:
    """The sum of tensors of one shape."""
    first, *others = terms
    for other in others:
        first = arithmetic(graph, "ADD", first, other)
    return first


def equal(graph: Graph, x: int, y: int) -> int:
    """Whether the numbers of two tensors of one shape are equal."""
    (result,) = graph.apply(
        "EQUAL", [x, y], ("bool", graph.shape(x)), kind="EqualOptions"
    )
    return result


def numbers_up_to(graph: Graph, n: int) -> int:
    """The integers 0, ..., n - 1."""
    ends = [graph.constant(np.array(x, np.int32)) for x in (0, n, 1)]
    (result,) = graph.apply("RANGE", ends, ("int32", (n,)), kind="RangeOptions")
    return result
