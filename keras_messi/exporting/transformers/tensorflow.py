"""Export the TensorFlow models of transformers."""

from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

# The newest set of operations that tf2onnx writes without a word of warning.
_OPSET = 17


def write(
    model: tf_keras.Model, path: Path, format: str, options: dict[str, Any]
) -> None:
    """Write a model as a function of its own inputs, in a format of `export`."""
    signature = options.pop("input_signature", model.input_signature)
    serve = tf.function(
        lambda inputs: _tensors(model(inputs, training=False)),
        input_signature=[signature],
    )
    _WRITERS[format](model, serve, path, **options)


def _tensors(outputs: Any) -> dict[str, Any]:
    """Outputs by name, without the optional lists of hidden states."""
    return {name: out for name, out in outputs.items() if tf.is_tensor(out)}


def _write_saved_model(model: tf_keras.Model, serve: Any, path: Path) -> None:
    signatures = {"serving_default": serve.get_concrete_function()}
    tf.saved_model.save(_module(model, serve), str(path), signatures)


def _module(model: tf_keras.Model, serve: Any) -> tf.Module:
    """What a function needs of its model.

    The calls of the model were traced before, with look-ups of another kind, and are
    many: they are left out.
    """
    module = tf.Module()
    module.weights, module.serve = model.weights, serve
    return module


def _write_litert(
    model: tf_keras.Model, serve: Any, path: Path, **attributes: Any
) -> None:
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serve.get_concrete_function()], _module(model, serve)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    for name, value in attributes.items():
        setattr(converter, name, value)
    path.write_bytes(converter.convert())


def _write_onnx(
    model: tf_keras.Model, serve: Any, path: Path, opset_version: int = _OPSET
) -> None:
    import tf2onnx

    tf2onnx.convert.from_function(
        serve, serve.input_signature, opset=opset_version, output_path=str(path)
    )


_WRITERS = {
    "tf_saved_model": _write_saved_model,
    "litert": _write_litert,
    "onnx": _write_onnx,
}
