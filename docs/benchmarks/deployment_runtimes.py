"""What runs a file: each imports its runtime only, and neither Keras nor a model."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

Batch = dict[str, np.ndarray]
Run = Callable[[Batch], np.ndarray]  # the first output for inputs by name


def _open_onnx(path: Path, threads: int) -> Run:
    """What runs an ONNX file, by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )
    names = [x.name for x in session.get_inputs()]
    first = session.get_outputs()[0].name
    return lambda inputs: session.run([first], _given(inputs, names))[0]


def _open_litert(path: Path, threads: int) -> Run:
    """What runs a LiteRT file, by the interpreter in TensorFlow, which has XNNPACK."""
    import tensorflow as tf

    with warnings.catch_warnings():
        # It says that another package will have this class one day.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")
        interpreter = tf.lite.Interpreter(str(path), num_threads=threads)
    details = interpreter.get_signature_runner().get_input_details()
    first = interpreter.get_output_details()[0]["index"]
    shapes: dict[str, tuple[int, ...]] = {}

    def run(inputs: Batch) -> np.ndarray:
        arrays = _given(inputs, list(details))
        if shapes != {name: array.shape for name, array in arrays.items()}:
            for name, array in arrays.items():
                shapes[name] = array.shape
                interpreter.resize_tensor_input(details[name]["index"], array.shape)
            interpreter.allocate_tensors()
        for name, array in arrays.items():
            taken = details[name]
            interpreter.set_tensor(taken["index"], array.astype(taken["dtype"]))
        interpreter.invoke()
        return interpreter.get_tensor(first)

    return run


def _given(inputs: Batch, names: list[str]) -> Batch:
    """An array for each input of a file; ids of one segment where there is none."""
    if not set(names) & set(inputs):  # an input that has no name
        inputs = dict(zip(names, inputs.values(), strict=True))
    missing = np.zeros_like(next(iter(inputs.values())))
    return {name: inputs.get(name, missing) for name in names}


class Runtime(NamedTuple):
    """A runtime: the module that it is, and what opens a file for so many threads."""

    module: str
    open: Callable[[Path, int], Run]


# By what a file ends in.
RUNTIMES = {
    ".onnx": Runtime("onnxruntime", _open_onnx),
    ".tflite": Runtime("tensorflow.lite.python.interpreter", _open_litert),
}
