"""What is done with a LiteRT file of a model in floats: made smaller, and tried."""

import re
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_messi.exporting.float_twins import FloatTwin
from keras_messi.exporting.litert.files import in_floats, is_rounded, put_forms
from keras_messi.exporting.trials import (
    QUANTIZED_ACTIVATIONS,
    SAME_ARITHMETIC,
    Input,
    check_outputs,
)
from keras_messi.exporting.worth import warn_of_floats, worth_changing
from keras_messi.models.keras._keras_internals import graph_inputs, is_graph


def finish(
    path: Path, model: Any, twin: FloatTwin, activations: str, tables: str
) -> None:
    """Put small forms of matrices into a file, and run it beside the model.

    It is run twice: with integers made floats, which must give the same; and with
    activations rounded to 8 bits, as it is written.

    Args:
        path: The file, of the float twin.
        model: The model.
        twin: Its float twin.
        activations: `"int8"` or `"float32"`: whether activations are rounded where
            they are multiplied by integers.
        tables: Not `"decoded"`: rows are read from small forms.

    Raises:
        ValueError: The file computes something else than the model, or `tables` is not
            as above.
    """
    if tables == "decoded":
        raise ValueError(
            '`tables` must be "stored" for LiteRT, which keeps no table that it has '
            f"decoded. Received: tables={tables!r}"
        )
    smaller, left = worth_changing(twin)
    written = path.read_bytes()
    content, missing = put_forms(written, smaller)
    warn_of_floats(left, missing)
    exact = in_floats(content)
    # The converter rounds by itself, if an option asks for that.
    bound = QUANTIZED_ACTIVATIONS if is_rounded(written) else SAME_ARITHMETIC
    _check(exact, model, twin, bound)
    if activations == "int8":
        _check(content, model, twin, QUANTIZED_ACTIVATIONS)
        exact = content
    path.write_bytes(exact)


def _check(content: bytes, model: Any, twin: FloatTwin, bound: float) -> None:
    runner = _runner(content)
    details = runner.get_input_details().items()
    inputs = [
        Input(name, found["shape_signature"].tolist(), np.dtype(found["dtype"]).name)
        for name, found in details
    ]
    order = _input_names(model)
    if sorted(order) == sorted(x.name for x in inputs):
        inputs.sort(key=lambda x: order.index(x.name))
    check_outputs(model, twin.model, inputs, lambda x: _in_order(runner(**x)), bound)


def _runner(content: bytes) -> Any:
    import tensorflow as tf

    with warnings.catch_warnings():
        # It says that another package will have this class one day.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")
        return tf.lite.Interpreter(model_content=content).get_signature_runner()


def _input_names(model: Any) -> list[str]:
    """Names of the inputs in the order of the model, which files don't keep."""
    if not (isinstance(model, keras.Model) and is_graph(model)):
        return []
    return [tensor.name for tensor in keras.tree.flatten(graph_inputs(model))]


def _in_order(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs in the order of the model: "output_10" comes after "output_9"."""
    by_number = {name: re.fullmatch(r"output_(\d+)", name) for name in outputs}
    if not all(by_number.values()):
        return outputs
    return dict(sorted(outputs.items(), key=lambda x: int(by_number[x[0]][1])))  # type: ignore[index]
