"""Bytes that matrices take in an ONNX file, without writing one."""

from collections.abc import Iterable

from onnx import helper

from keras_messi.exporting.forms import Form
from keras_messi.exporting.onnx.export import MOST_DECODED
from keras_messi.exporting.onnx.graph import Graph
from keras_messi.exporting.onnx.integers import in_integers
from keras_messi.exporting.onnx.lookups import looked_up
from keras_messi.exporting.onnx.numbers import decoded
from keras_messi.exporting.onnx.products import times
from keras_messi.exporting.worth import bytes_in_floats

_OPSET = 15  # with which models of Keras are written


def bytes_of(forms: Iterable[tuple[Form, bool]]) -> int:
    """Bytes of the constants and operators of matrices.

    Args:
        forms: Form of each matrix, and whether it is a table, whose rows are looked up.
    """
    operators = [helper.make_opsetid("", _OPSET)]
    empty = helper.make_graph([], "", [], [])
    graph = Graph(helper.make_model(empty, opset_imports=operators))
    for number, (form, is_table) in enumerate(forms):
        if not is_table:
            times(form, graph, f"x{number}", in_integers)
        elif bytes_in_floats(form) > MOST_DECODED["auto"]:
            looked_up(form, graph, f"x{number}")
        else:
            decoded(form, graph)
    graph.finish()
    found = graph.model.graph
    return sum(x.ByteSize() for x in (*found.initializer, *found.node))
