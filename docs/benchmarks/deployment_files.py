"""Kinds of files, and how each is written."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from onnx_runtime_int4 import int4_blocks
from onnxruntime.quantization import QuantType, quantize_dynamic

from keras_messi import export


class Kind(NamedTuple):
    """A kind of files.

    Attributes:
        suffix: What a file ends in.
        write: Writes a model to a path.
        is_rival: Whether it makes an uncompressed model smaller by itself.
    """

    suffix: str
    write: Callable[[Any, Path], None]
    is_rival: bool = False


def _litert_int8(model: Any, path: Path) -> None:
    """What TensorFlow's converter makes of a model, with 8 bits a number."""
    default = [tf.lite.Optimize.DEFAULT]
    export(model, path, overwrite=True, optimizations=default)


def _onnx_runtime_int8(model: Any, path: Path) -> None:
    """What ONNX Runtime makes of the float file, with 8 bits a number."""
    export(model, path, overwrite=True)
    quantize_dynamic(path, path, weight_type=QuantType.QInt8)


def _onnx_runtime_int4(model: Any, path: Path) -> None:
    """The same with 4 bits, in blocks of 128."""
    export(model, path, overwrite=True)
    int4_blocks(path, path, 128)


def _export(model: Any, path: Path, **options: str) -> None:
    export(model, path, overwrite=True, **options)


KINDS = {
    "ONNX": Kind(".onnx", _export),
    "ONNX, float32 activations": Kind(".onnx", partial(_export, activations="float32")),
    "ONNX, tables decoded": Kind(".onnx", partial(_export, tables="decoded")),
    "LiteRT": Kind(".tflite", _export),
    "LiteRT, float32 activations": Kind(
        ".tflite", partial(_export, activations="float32")
    ),
    "LiteRT int8": Kind(".tflite", _litert_int8, is_rival=True),
    "ONNX Runtime int8": Kind(".onnx", _onnx_runtime_int8, is_rival=True),
    "ONNX Runtime int4": Kind(".onnx", _onnx_runtime_int4, is_rival=True),
}
# The kind that an uncompressed model is run as, beside which the others are timed.
BASELINES = {name: name.split()[0].rstrip(",") for name in KINDS}
