"""A LiteRT file, read and written, and operations added to it.

A tensor is its index in the list of its graph. Shapes are tuples, with None for what is
not known before the file runs.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

Shape = tuple[int | None, ...]

INT32 = schema.TensorType.INT32

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int32": INT32,
    "int16": schema.TensorType.INT16,
    "uint8": schema.TensorType.UINT8,
    "int8": schema.TensorType.INT8,
    "int4": schema.TensorType.INT4,
    "bool": schema.TensorType.BOOL,
    "resource": schema.TensorType.RESOURCE,
}
_ROUNDED = {_TYPES[name] for name in ("int4", "int8", "float16")}
_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()
}
# The field that held the operation before there were more than it has room for.
_MOST_DEPRECATED = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES


class File:
    """A LiteRT file as objects.

    Args:
        content: The bytes of the file.

    Attributes:
        graphs: The graphs in it; the first is the model.
    """

    def __init__(self, content: bytes) -> None:
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        self.graphs = [Graph(self, graph) for graph in self._model.subgraphs]
        self._loading: Graph | None = None
        self._variables: dict[Hashable, tuple[dict[str, Any], Shape]] = {}

    def to_bytes(self) -> bytes:
        """The file, without the data of constants that nothing reads any more."""
        if self._loading is not None:
            self._loading.finish()
            last = len(self._model.subgraphs) - 1
            self.graphs[0].apply(
                "CALL_ONCE", [], kind="CallOnceOptions", initSubgraphIndex=last
            )
            self.graphs[0].finish()
        self._drop_unread()
        builder = _SharingBuilder(1024)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _drop_unread(self) -> None:
        read = {
            graph.tensors[tensor].buffer
            for graph in self._model.subgraphs
            for tensor in [*graph.outputs, *_inputs_of(graph.operators)]
            if tensor >= 0
        }
        read |= {entry.buffer for entry in self._model.metadata or []}
        for index, buffer in enumerate(self._model.buffers):
            if index not in read:
                buffer.data = None

    def data(self, buffer: int) -> np.ndarray | None:
        """The bytes of a buffer, None of one that has none."""
        data = self._model.buffers[buffer].data
        return None if data is None or not len(data) else np.asarray(data, np.uint8)

    def add_buffer(self, data: np.ndarray) -> int:
        """Add bytes, or find the buffer that has them."""
        for index, buffer in enumerate(self._model.buffers):
            if buffer.data is not None and np.array_equal(buffer.data, data):
                return index
        buffer = schema.BufferT()
        buffer.data = data
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def variable(
        self, key: Hashable, compute: Callable[["Graph"], int]
    ) -> tuple[dict[str, Any], Shape]:
        """A variable that is filled when the file is loaded: its name and shape.

        Args:
            key: What tells variables apart.
            compute: Adds the operations to a graph, and gives the tensor.
        """
        if key not in self._variables:
            graph = self._loading_graph()
            value = compute(graph)
            name: dict[str, Any] = {
                "sharedName": f"small_{len(self._variables)}",
                "container": "",
            }
            (handle,) = graph.apply(
                "VAR_HANDLE", [], ("resource", (1,)), kind="VarHandleOptions", **name
            )
            graph.apply(
                "ASSIGN_VARIABLE", [handle, value], kind="AssignVariableOptions"
            )
            self._variables[key] = name, graph.shape(value)
        return self._variables[key]

    def _loading_graph(self) -> "Graph":
        """The graph that is run once, before the others."""
        if self._loading is None:
            made = schema.SubGraphT()
            made.name = "load"
            made.tensors, made.operators, made.inputs, made.outputs = [], [], [], []
            self._model.subgraphs.append(made)
            self._loading = Graph(self, made)
        return self._loading

    def operation(self, code: int) -> str:
        """Name of the operation that an operator refers to."""
        entry = self._model.operatorCodes[code]
        return _NAMES[max(entry.builtinCode, entry.deprecatedBuiltinCode)]

    def code_of(self, name: str, version: int) -> int:
        """What an operator refers to an operation by."""
        wanted = getattr(schema.BuiltinOperator, name)
        for index, entry in enumerate(self._model.operatorCodes):
            if (entry.builtinCode, entry.version) == (wanted, version):
                return index
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.version = wanted, version
        entry.deprecatedBuiltinCode = min(wanted, _MOST_DEPRECATED)
        self._model.operatorCodes.append(entry)
        return len(self._model.operatorCodes) - 1


def empty_file() -> File:
    """A file with one graph, which has nothing in it yet."""
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes, model.subgraphs = [], [graph]
    model.buffers = [schema.BufferT()]  # that of tensors without data
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return File(bytes(builder.Output()))


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal vectors once, such as the zero points of all scales."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        """What it is called by."""
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


def _inputs_of(operators: Sequence[Any]) -> Iterator[int]:
    for operator in operators:
        yield from operator.inputs if operator.inputs is not None else ()


def _in_pairs(data: np.ndarray) -> np.ndarray:
    """Integers of 4 bits, two of them a byte, the first one low."""
    data = np.append(data, np.zeros(len(data) % 2, np.uint8)) & np.uint8(15)
    return (data[::2] | data[1::2] << np.uint8(4)).astype(np.uint8)


class Operation:
    """An operation of a graph.

    Attributes:
        name: Its name, such as "FULLY_CONNECTED".
        inputs: Its tensors; None for one that is left out.
        output: The tensor that it computes, the first of them.
        options: What else it is told, by the names of the schema.
    """

    def __init__(self, file: File, operator: Any) -> None:
        self.name = file.operation(operator.opcodeIndex)
        self.inputs: list[Any] = [None if i < 0 else int(i) for i in operator.inputs]
        self.output: Any = next(map(int, operator.outputs), None)
        self.options = operator.builtinOptions
        self._operator = operator

    def read(self, index: int, tensor: int) -> None:
        """Let it read another tensor in the place of one of its inputs."""
        self.inputs[index] = tensor
        self._operator.inputs = [-1 if x is None else x for x in self.inputs]


class Graph:
    """A graph of a file, to which operations can be added.

    Args:
        file: The file.
        graph: The graph in its objects.
    """

    def __init__(self, file: File, graph: Any) -> None:
        self.file = file
        self._graph = graph
        self._added: list[Any] = []

    def rewrite(self, replacement: Callable[[Operation], int | None]) -> None:
        """Replace operations.

        Args:
            replacement: Gives the tensor that has the output of an operation, computed
                by operations that it adds; None where the operation is to stay.
        """
        kept: list[Any] = []
        for operator in self._graph.operators:
            operation = Operation(self.file, operator)
            result = replacement(operation)
            if result is None:
                self._added.append(operator)
            else:
                self._write_to(operation.output, result)
            kept += self._added
            self._added = []
        self._graph.operators = kept

    def _write_to(self, output: int, result: int) -> None:
        """Let what computes a result write it to another tensor."""
        for operator in self._added:
            operator.outputs = [output if x == result else x for x in operator.outputs]

    def finish(self) -> None:
        """Put the operations added before all others."""
        self._graph.operators = [*self._added, *self._graph.operators]
        self._added = []

    def loaded(
        self, key: Hashable, compute: Callable[["Graph"], int], dtype: str = "float32"
    ) -> int:
        """A tensor that is computed once, when the file is loaded.

        Args:
            key: What is computed under the same key is computed once.
            compute: Adds the operations to a graph, and gives the tensor.
            dtype: Of the tensor.
        """
        name, shape = self.file.variable(key, compute)
        (handle,) = self.apply(
            "VAR_HANDLE", [], ("resource", (1,)), kind="VarHandleOptions", **name
        )
        (result,) = self.apply(
            "READ_VARIABLE", [handle], (dtype, shape), kind="ReadVariableOptions"
        )
        return result

    def shape(self, tensor: int) -> Shape:
        """Shape of a tensor."""
        found = self._graph.tensors[tensor]
        sides = found.shape if found.shapeSignature is None else found.shapeSignature
        return tuple(None if side < 0 else int(side) for side in sides)

    def has_rounded_constants(self) -> bool:
        """Whether there are constants of numbers in fewer bits than float32."""
        return any(
            tensor.type in _ROUNDED and self.file.data(tensor.buffer) is not None
            for tensor in self._graph.tensors
        )

    def is_integer(self, tensor: int) -> bool:
        """Whether a tensor holds integers with scales."""
        found = self._graph.tensors[tensor]
        return found.type in (_TYPES["int8"], _TYPES["int4"])

    def read(self, tensor: int) -> np.ndarray | None:
        """The numbers of a tensor of float32 that is a constant, otherwise None."""
        found = self._graph.tensors[tensor]
        data = self.file.data(found.buffer)
        if data is None or found.type != schema.TensorType.FLOAT32:
            return None
        return np.frombuffer(data.tobytes(), "<f4").reshape(found.shape)

    def given(self, dtype: str, shape: Shape) -> int:
        """A tensor that is there when the graph is run."""
        return self._tensor(dtype, shape)

    def constant(self, values: np.ndarray) -> int:
        """A tensor that is a constant."""
        tensor = self._tensor(values.dtype.name, values.shape)
        data = np.frombuffer(values.tobytes(), np.uint8)
        self._graph.tensors[tensor].buffer = self.file.add_buffer(data)
        return tensor

    def integers(
        self, values: np.ndarray, bits: int, scales: np.ndarray, axis: int = 0
    ) -> int:
        """A constant of integers with scales.

        Args:
            values: int8 of two axes.
            bits: 8 or 4.
            scales: One scale for all, or one for each slice: float32 of one axis.
            axis: The axis that has a scale for each slice.
        """
        tensor = self._tensor(f"int{bits}", values.shape)
        data = np.frombuffer(values.tobytes(), np.uint8)
        found = self._graph.tensors[tensor]
        found.buffer = self.file.add_buffer(_in_pairs(data) if bits == 4 else data)
        found.quantization = schema.QuantizationParametersT()
        found.quantization.scale = np.asarray(scales, np.float32)
        found.quantization.zeroPoint = np.zeros(len(scales), np.int64)
        found.quantization.quantizedDimension = axis
        return tensor

    def _tensor(self, dtype: str, shape: Shape) -> int:
        tensor = schema.TensorT()
        tensor.name = f"small_{len(self._graph.tensors)}"
        tensor.type = _TYPES[dtype]
        tensor.shape = [1 if side is None else side for side in shape]
        if None in shape:
            tensor.shapeSignature = [-1 if side is None else side for side in shape]
        tensor.buffer = 0  # which is empty
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def apply(
        self,
        name: str,
        inputs: Sequence[int | None],
        *outputs: tuple[str, Shape],
        version: int = 1,
        kind: str = "",
        **options: Any,
    ) -> list[int]:
        """Add an operation.

        Args:
            name: Its name, such as "FULLY_CONNECTED".
            inputs: Its tensors; None for one that is left out.
            outputs: Dtype and shape of each of its outputs.
            version: The first version of it that does what is asked.
            kind: Its table of options in the schema, if it has one.
            options: What to set in that table.
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self.file.code_of(name, version)
        operator.inputs = [-1 if x is None else x for x in inputs]
        operator.outputs = [self._tensor(*output) for output in outputs]
        if kind:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(schema, f"{kind}T")()
            for option, value in options.items():
                setattr(operator.builtinOptions, option, value)
        self._added.append(operator)
        return operator.outputs
