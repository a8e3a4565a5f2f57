"""Smaller forms of matrices, put into a finished ONNX file in the place of floats."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from keras_messi.exporting.float_twins import SmallMatrix
from keras_messi.exporting.forms import Form
from keras_messi.exporting.kernels import FoundKernel, Layout, find_kernels
from keras_messi.exporting.onnx.graph import Graph
from keras_messi.exporting.onnx.lookups import looked_up
from keras_messi.exporting.onnx.numbers import decoded
from keras_messi.exporting.onnx.products import Multiply, times, times_transposed

_WORTH_SHARING = 2**16  # bytes of a constant
_LEAST_OPSET = 13  # of which sizes of parts and axes of sums are inputs
# The order of the axes of kernels.
_LAYOUTS = {"Conv": Layout("OI*"), "ConvTranspose": Layout("IO*")}
_Values = tuple[tuple[int, ...], bytes]  # shape, and a digest


class _Place(NamedTuple):
    """A constant of a file that is a matrix of some form, or its transpose."""

    path: str
    form: Form
    is_transposed: bool


def put_forms(
    path: Path,
    matrices: Sequence[SmallMatrix],
    multiply: Multiply,
    most_decoded: float,
) -> set[str]:
    """Replace matrices in a file, which are found by their values.

    Args:
        path: The file, of a model in floats.
        matrices: The matrices, and what they are made of.
        multiply: How activations are multiplied by them.
        most_decoded: Bytes that a table which is looked up may take in floats to be
            decoded when the file is loaded. Of a larger one, rows are read from the
            smaller form each.

    Raises:
        ValueError: The file was written with too old a set of operators.

    Returns:
        Paths of the layers whose matrices are not in the file, so that they stay as
        they are there.
    """
    model = onnx.load(path)
    folded = [x for x in matrices if x.fold is not None]
    known = _known(x for x in matrices if x.fold is None)
    places = _find(model.graph, known)
    kernels = _find_kernels(model.graph, folded)
    graph = Graph(model)
    if (places or kernels) and graph.opset < _LEAST_OPSET:
        raise ValueError(
            f"`opset_version` must be at least {_LEAST_OPSET} for a compressed model. "
            f"Received: opset_version={graph.opset}"
        )
    _share_transposes(graph, places)
    graph.rebuild(
        lambda node: _replacement(node, graph, places, multiply, most_decoded)
    )
    used = graph.used()
    for name, place in places.items():
        if name in used:
            matrix = decoded(place.form, graph)
            matrix = graph.transposed(matrix) if place.is_transposed else matrix
            graph.define(name, matrix)
    for name, (shape, found) in kernels.items():
        graph.define(name, _decoded_kernel(found[0], shape, graph))
    graph.finish()
    onnx.save(model, path)
    seen = {x.path for x in places.values()}
    seen |= {x.matrix.path for _, found in kernels.values() for x in found}
    return ({x.path for x in known.values()} | {x.path for x in folded}) - seen


def _known(matrices: Iterable[SmallMatrix]) -> dict[_Values, _Place]:
    """The matrices, and how they are transposed, by their values."""
    known = {}
    for path, numbers, form, _ in matrices:
        known[_values(numbers.T)] = _Place(path, form, True)
        known[_values(numbers)] = _Place(path, form, False)
    return known


def _find(graph: onnx.GraphProto, known: dict[_Values, _Place]) -> dict[str, _Place]:
    """The constants that are one of the matrices, by name."""
    places = {}
    for name, array in _matrices(graph):
        place = known.get(_values(array))
        if place is not None:
            places[name] = place
    return places


def _find_kernels(
    graph: onnx.GraphProto, matrices: Sequence[SmallMatrix]
) -> dict[str, tuple[tuple[int, ...], list[FoundKernel]]]:
    """The kernels of convolutions that are one of the matrices, with their shapes."""
    constants = {x.name: x for x in graph.initializer}
    found = {}
    for node in graph.node:
        layout = _LAYOUTS.get(node.op_type)
        if layout is None or node.input[1] not in constants:
            continue
        constant = numpy_helper.to_array(constants[node.input[1]])
        kernels = find_kernels(constant, matrices, layout)
        if kernels:
            found[node.input[1]] = constant.shape, kernels
    return found


def _decoded_kernel(kernel: FoundKernel, shape: Sequence[int], graph: Graph) -> str:
    """A kernel in floats, a constant: a runtime computes it when it loads the file."""
    x = decoded(kernel.matrix.form, graph)
    x = graph.op("Reshape", x, graph.constant(kernel.sizes, np.int64))
    x = graph.op("Transpose", x, perm=kernel.permutation)
    if np.any(kernel.factors != 1):
        x = graph.op("Mul", x, graph.constant(kernel.factors))
    return graph.op("Reshape", x, graph.constant(shape, np.int64))


def _matrices(graph: onnx.GraphProto) -> Iterator[tuple[str, np.ndarray]]:
    """Constants of floats of two axes, by name."""
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2:
            yield tensor.name, numpy_helper.to_array(tensor)


def _share_transposes(graph: Graph, places: Mapping[str, _Place]) -> None:
    """Let a runtime transpose what is in the file as it is and transposed.

    So is a table that is looked up and gives logits.
    """
    known: dict[_Values, str] = {}
    for name, array in list(_matrices(graph.model.graph)):
        if name in places or array.nbytes < _WORTH_SHARING:
            continue
        other = known.get(_values(array.T))
        if other is None:
            known[_values(array)] = name
        else:
            graph.define(name, graph.transposed(other))


def _values(array: np.ndarray) -> _Values:
    return array.shape, hashlib.sha256(array.tobytes()).digest()


def _replacement(
    node: onnx.NodeProto,
    graph: Graph,
    places: dict[str, _Place],
    multiply: Multiply,
    most_decoded: float,
) -> str | None:
    """What takes the place of a node that uses a matrix, if it is of a kind known."""
    if node.op_type == "Gather" and node.input[0] in places:
        place = places[node.input[0]]
        along_rows = not place.is_transposed and not _attribute(node, "axis", 0)
        if along_rows and 4 * math.prod(place.form.shape) > most_decoded:
            return looked_up(place.form, graph, node.input[1])
    elif node.op_type in ("MatMul", "Gemm") and node.input[1] in places:
        return _product(node, graph, places[node.input[1]], multiply)
    return None


def _product(
    node: onnx.NodeProto, graph: Graph, place: _Place, multiply: Multiply
) -> str | None:
    plain = {"transA": 0, "alpha": 1.0, "beta": 1.0}
    if any(_attribute(node, name, value) != value for name, value in plain.items()):
        return None
    transposed = place.is_transposed != bool(_attribute(node, "transB", 0))
    product = (times_transposed if transposed else times)(
        place.form, graph, node.input[0], multiply
    )
    bias = node.input[2:]
    return graph.op("Add", product, bias[0]) if bias else product


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    found = [
        onnx.helper.get_attribute_value(x) for x in node.attribute if x.name == name
    ]
    return found[0] if found else default
