"""The last steps of an export to ONNX: smaller forms are put in, and the file is tried.

The file holds operators of the ONNX standard only, in the set of operators that it was
written with, from 13 on.
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from keras_messi.exporting.float_twins import FloatTwin
from keras_messi.exporting.onnx.files import put_forms
from keras_messi.exporting.onnx.integers import in_integers
from keras_messi.exporting.onnx.products import in_floats
from keras_messi.exporting.trials import (
    QUANTIZED_ACTIVATIONS,
    SAME_ARITHMETIC,
    Input,
    check_outputs,
)
from keras_messi.exporting.worth import warn_of_floats, worth_changing

# By the argument `activations` of `export`.
_MULTIPLY = {
    "int8": (in_integers, QUANTIZED_ACTIVATIONS),
    "float32": (in_floats, SAME_ARITHMETIC),
}

# By the argument `tables`: bytes of a table in floats up to which it is decoded.
MOST_DECODED = {"auto": 2**23, "stored": 0, "decoded": math.inf}


def finish(
    path: Path, model: Any, twin: FloatTwin, activations: str, tables: str
) -> None:
    """Put the forms of a model into the file of its twin, and run it beside the model.

    Raises:
        ValueError: An output of the file differs from that of the model.
        ImportError: ONNX Runtime is not installed.
    """
    multiply, bound = _MULTIPLY[activations]
    smaller, left = worth_changing(twin)
    missing = put_forms(path, smaller, multiply, MOST_DECODED[tables])
    warn_of_floats(left, missing)
    _try(path, model, twin, bound if twin.matrices else SAME_ARITHMETIC)


def _try(path: Path, model: Any, twin: FloatTwin, bound: float) -> None:
    session = _session(path)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, inputs), strict=True))

    inputs = [Input(x.name, x.shape, _DTYPES[x.type]) for x in session.get_inputs()]
    check_outputs(model, twin.model, inputs, run, bound)


def _session(path: Path) -> Any:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph

    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph) as error:
        unknown = re.search(r"No Op registered for (\w+)", str(error))
        if not unknown:
            raise
        raise ValueError(
            f"ONNX has no operator for {unknown.group(1)} of the model. Leave its "
            "layer out of the exported model."
        ) from error


_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({x}{n})": f"{x}{n}" for x in ("int", "uint") for n in (8, 16, 32, 64)},
}
