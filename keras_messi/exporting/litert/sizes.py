"""Bytes that matrices take in a LiteRT file, without writing one."""

from collections.abc import Iterable

from keras_messi.exporting.forms import Form
from keras_messi.exporting.litert.forms import multiply
from keras_messi.exporting.litert.graph import empty_file
from keras_messi.exporting.litert.lookups.one_table import in_one_table
from keras_messi.exporting.litert.lookups.rows import rows


def bytes_of(forms: Iterable[tuple[Form, bool]]) -> int:
    """Bytes of the constants and operations of matrices.

    Args:
        forms: Form of each matrix, and whether it is a table, whose rows are looked up.
    """
    file = empty_file()
    (graph,) = file.graphs
    for form, is_table in forms:
        if is_table:
            rows(in_one_table(form), graph, graph.given("int32", (None,)))
        else:
            multiply(form, graph, graph.given("float32", (None, form.shape[0])))
    graph.finish()
    return len(file.to_bytes())
