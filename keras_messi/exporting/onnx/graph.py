"""The graph of an ONNX model, to be changed in a finished file."""

import hashlib
from collections.abc import Callable, Hashable, Iterable
from functools import partial, reduce
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

# Float16 is tried for constants of so many numbers; for fewer it saves nothing.
_WORTH_HALVING = 32


class Graph:
    """Adds nodes and constants to the main graph of a model.

    A node whose inputs are all constant goes to the front, and its outputs are constant
    too: a runtime computes it once, when it loads the file.

    Args:
        model: The model, which is changed.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.opset = next(x.version for x in model.opset_import if not x.domain)
        self._taken = used_names(model.graph)
        self._constant = {x.name for x in model.graph.initializer}
        self._at_load: list[onnx.NodeProto] = []
        self._in_place: list[onnx.NodeProto] = []
        self._made: dict[Hashable, Any] = {}
        self._count = 0

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` makes, made once for a key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def constant(self, array: Any, dtype: Any = None) -> str:
        """A constant, stored once for all places that have the same."""
        array = np.asarray(array, dtype)

        def add() -> str:
            name = self._new_name()
            tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
            tensor.dims[:] = array.shape
            self.model.graph.initializer.append(tensor)
            self._constant.add(name)
            return name

        digest = hashlib.sha256(array.tobytes()).digest()
        return self.once((array.dtype.str, array.shape, digest), add)

    def floats(self, array: np.ndarray) -> str:
        """A float32 constant, in the file in float16 where that is exact."""
        array = np.asarray(array, np.float32)
        for power in (0, 3, 7) if array.size > _WORTH_HALVING else ():
            with np.errstate(over="ignore"):
                halves = (array * np.float32(2**power)).astype(np.float16)
            exact = np.float32(2**-power)
            if np.array_equal(halves.astype(np.float32) * exact, array):
                floats = self.cast(self.constant(halves), "FLOAT")
                return self.op("Mul", floats, self.constant(exact)) if power else floats
        return self.constant(array)

    def cast(self, x: str, dtype: str) -> str:
        """The same in another type, by its name in ONNX."""
        return self.op("Cast", x, to=getattr(onnx.TensorProto, dtype))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the name of that."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, num: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs, and return their names."""
        names = [self._new_name() for _ in range(num)]
        self._add(helper.make_node(kind, inputs, names, **attributes))
        return names

    def rename(self, x: str, name: str) -> None:
        """Give a tensor that was just made another name."""
        last = self._in_place[-1] if self._in_place else None
        if last is not None and list(last.output) == [x]:
            last.output[0] = name
        else:
            self._add(helper.make_node("Identity", [x], [name]))

    def sum(self, terms: list[str]) -> str:
        """Tensors, added up."""
        return reduce(partial(self.op, "Add"), terms)

    def transposed(self, x: str) -> str:
        """A tensor of two axes with these exchanged."""
        return self.op("Transpose", x, perm=[1, 0])

    def reduce(self, kind: str, x: str, axis: int) -> str:
        """Minimum, maximum or sum along an axis, which stays, of size 1."""
        since = 13 if kind == "ReduceSum" else 18
        if self.opset < since:
            return self.op(kind, x, axes=[axis], keepdims=1)
        return self.op(kind, x, self.constant([axis], np.int64), keepdims=1)

    def split(self, x: str, sizes: Iterable[int], axis: int = -1) -> list[str]:
        """Stretches of an axis."""
        sizes = list(sizes)
        if len(sizes) == 1:
            return [x]
        lengths = self.constant(sizes, np.int64)
        return self.ops("Split", len(sizes), x, lengths, axis=axis)

    def concat(self, parts: list[str], axis: int = -1) -> str:
        """Tensors side by side."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=axis)

    def rebuild(self, replaced: Callable[[onnx.NodeProto], str | None]) -> None:
        """Go through all nodes, and replace some by what is added meanwhile.

        Args:
            replaced: Called with each node. It may add nodes, and returns the name of
                the tensor that is the output of this one from now on; or None.
        """
        for node in list(self.model.graph.node):
            output = replaced(node)
            if output is None:
                self._in_place.append(node)
            else:
                self.rename(output, node.output[0])

    def used(self) -> set[str]:
        """Tensors that the nodes take, and the outputs."""
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend([*self._at_load, *self._in_place])
        return used_names(graph)

    def define(self, name: str, constant: str) -> None:
        """Let a constant take the place of one that is in the file."""
        self._at_load.append(helper.make_node("Identity", [constant], [name]))
        kept = [x for x in self.model.graph.initializer if x.name != name]
        self._set_constants(kept)

    def finish(self) -> None:
        """Put all nodes in their order, and leave out constants that nothing uses."""
        used = self.used()
        self._set_constants([x for x in self.model.graph.initializer if x.name in used])
        del self.model.graph.value_info[:]  # of tensors some of which are no more

    def _set_constants(self, tensors: list[onnx.TensorProto]) -> None:
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(tensors)

    def _add(self, node: onnx.NodeProto) -> None:
        if all(name in self._constant for name in node.input if name):
            self._constant.update(node.output)
            self._at_load.append(node)
        else:
            self._in_place.append(node)

    def _new_name(self) -> str:
        while True:
            self._count += 1
            name = f"_{self._count}"  # short, as the file holds it several times
            if name not in self._taken:
                return name


def used_names(graph: onnx.GraphProto) -> set[str]:
    """Tensors that a graph, or a graph in one of its nodes, takes or returns."""
    names = {x.name for x in (*graph.input, *graph.output)}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= used_names(inner)
    return names
