"""Integers, factors and codes in the place of the floats of a finished LiteRT file."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from keras_messi.exporting.float_twins import SmallMatrix
from keras_messi.exporting.kernels import Layout, factors_of_rows, find_kernels
from keras_messi.exporting.litert.forms import (
    End,
    matrix,
    multiply,
    multiply_transposed,
)
from keras_messi.exporting.litert.graph import File, Graph, Operation
from keras_messi.exporting.litert.lookups.one_table import in_one_table
from keras_messi.exporting.litert.lookups.rows import rows
from keras_messi.exporting.litert.operations import (
    arithmetic,
    dequantize,
    flat,
    fully_connected,
    permute,
    reshape,
    rows_as,
)

# The order of the axes of kernels.
_LAYOUTS = {
    "CONV_2D": Layout("O*I"),
    "TRANSPOSE_CONV": Layout("O*I"),
    "CONV_3D": Layout("*IO"),
    "CONV_3D_TRANSPOSE": Layout("*OI"),
}


class _Found(NamedTuple):
    """A matrix that a constant of the file holds.

    Attributes:
        matrix: The matrix.
        is_transposed: Whether the rows of the constant are those of the matrix.
        factors: What the converter multiplied the rows of the constant by, if anything.
    """

    matrix: SmallMatrix
    is_transposed: bool
    factors: np.ndarray | None


def put_forms(
    content: bytes, matrices: Sequence[SmallMatrix]
) -> tuple[bytes, set[str]]:
    """Replace matrices in a file, which are found by their values.

    Args:
        content: The file, of a model in floats.
        matrices: The matrices, and what they are made of.

    Returns:
        The new file, and the paths of the layers whose matrices are not in the old one,
        so that they stay as they are there.
    """
    file = File(content)
    editor = _Editor(matrices)
    editor.edit(list(file.graphs))
    return file.to_bytes(), {matrix.path for matrix in matrices} - editor.seen


def is_rounded(content: bytes) -> bool:
    """Whether some constants of a file have fewer bits than float32."""
    return any(graph.has_rounded_constants() for graph in File(content).graphs)


def in_floats(content: bytes) -> bytes:
    """A file whose integers are made floats before anything is multiplied by them.

    Integers are decoded when the file is loaded. It computes in floats, and inputs of
    products are not rounded.
    """
    file = File(content)
    for graph in list(file.graphs):
        graph.rewrite(partial(_decoded, graph))
    return file.to_bytes()


def _decoded(graph: Graph, operation: Operation) -> int | None:
    """A product with floats in the place of one with integers."""
    if operation.name != "FULLY_CONNECTED" or not graph.is_integer(operation.inputs[1]):
        return None
    x, weights, bias = operation.inputs
    activation = operation.options.fusedActivationFunction
    return fully_connected(graph, x, dequantize(graph, weights), bias, activation)


class _Editor:
    """Replaces the operations that read a matrix."""

    def __init__(self, matrices: Sequence[SmallMatrix]) -> None:
        self.matrices = matrices
        self.seen: set[str] = set()
        self.tied: set[str] = set()

    def edit(self, graphs: Sequence[Graph]) -> None:
        """Replace those of all graphs; which tables give logits is then known."""
        for write in (self._dense, self._looked_up, self._convolved):
            for graph in graphs:
                graph.rewrite(partial(write, graph))

    def _dense(self, graph: Graph, operation: Operation) -> int | None:
        if operation.name != "FULLY_CONNECTED":
            return None
        x, weights, bias = operation.inputs
        found = self._find(graph, weights, by_unit=True)
        if found is None:
            return None
        end = End(found.factors, bias, operation.options.fusedActivationFunction)
        if not found.is_transposed:
            return multiply(found.matrix.form, graph, x, end)
        self.tied.add(found.matrix.path)
        return multiply_transposed(found.matrix.form, graph, x, end)

    def _looked_up(self, graph: Graph, operation: Operation) -> int | None:
        if operation.name != "GATHER":
            return None
        table, ids = operation.inputs
        if operation.options.axis or operation.options.batchDims:
            return None
        found = self._find(graph, table, by_unit=False)
        if found is None:
            return None
        form = found.matrix.form
        if found.matrix.path not in self.tied:  # otherwise it would be in there twice
            form = in_one_table(form)
        return rows_as(graph, rows(form, graph, flat(graph, ids)), ids)

    def _convolved(self, graph: Graph, operation: Operation) -> None:
        """Let a convolution read a kernel that is computed when the file is loaded."""
        layout = _LAYOUTS.get(operation.name)
        if layout is None:
            return
        constant = graph.read(operation.inputs[1])
        if constant is None:
            return
        kernels = find_kernels(constant, self.matrices, layout)
        if not kernels:
            return
        found = kernels[0]
        self.seen.update(x.matrix.path for x in kernels)

        def compute(load: Graph) -> int:
            kernel = matrix(found.matrix.form, load)
            kernel = reshape(load, kernel, found.sizes, "float32")
            kernel = permute(load, kernel, found.permutation)
            if np.any(found.factors != 1):
                factors = load.constant(found.factors)
                kernel = arithmetic(load, "MUL", kernel, factors)
            return reshape(load, kernel, constant.shape, "float32")

        operation.read(1, graph.loaded(operation.output, compute))

    def _find(self, graph: Graph, tensor: int, by_unit: bool) -> _Found | None:
        """The matrix that a constant holds; a constant by unit may be transposed."""
        constant = graph.read(tensor)
        if constant is None or constant.ndim != 2:
            return None
        found = [
            _Found(matrix, is_transposed, factors)
            for matrix in self.matrices
            for is_transposed in ((False, True) if by_unit else (True,))
            if (factors := _factors(constant, matrix, is_transposed)) is not None
        ]
        same = [x._replace(factors=None) for x in found if np.all(x.factors == 1)]
        self.seen.update(x.matrix.path for x in same or found[:1])
        if same or not by_unit:
            return same[0] if same else None
        return found[0] if found else None


def _factors(
    constant: np.ndarray, matrix: SmallMatrix, is_transposed: bool
) -> np.ndarray | None:
    """What rows were multiplied by, float32 `(rows,)`; None if it is something else."""
    numbers = matrix.numbers if is_transposed else matrix.numbers.T
    if constant.shape != numbers.shape:
        return None
    first = int(np.argmax(np.any(numbers != 0, axis=1)))
    if factors_of_rows(constant[first : first + 1], numbers[first : first + 1]) is None:
        return None
    return factors_of_rows(constant, numbers)
