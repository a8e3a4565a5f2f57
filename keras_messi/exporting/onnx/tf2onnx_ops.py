"""What tf2onnx lacks to convert a TensorFlow model: an operation, and constants."""

from functools import wraps
from typing import Any

import numpy as np


def complete_tf2onnx() -> None:
    """Teach tf2onnx what models of transformers and of keras-hub need.

    That is erfc(x) = 1 - erf(x), for TensorFlow's exact gelu, and that a number which
    was computed before the model was traced, as Gemma's scale of its embeddings, is no
    input of the model.
    """
    from tf2onnx import tf_loader
    from tf2onnx.handler import tf_op

    tf_op("Erfc")(_Erfc)
    if not hasattr(tf_loader.from_function, "__wrapped__"):
        tf_loader.from_function = _with_constants(tf_loader.from_function)


def _with_constants(from_function: Any) -> Any:
    """TensorFlow lists constants that it captures among the inputs of a function."""

    @wraps(from_function)
    def freeze(function: Any, inputs: list[str], *args: Any, **options: Any) -> Any:
        tensor = function.graph.get_tensor_by_name
        inputs[:] = [name for name in inputs if tensor(name).op.type != "Const"]
        return from_function(function, inputs, *args, **options)

    return freeze


class _Erfc:
    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Replace a node; the name says from which set of operations on."""
        from tf2onnx.utils import make_name, map_onnx_to_numpy_type

        dtype, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
        ctx.remove_node(node.name)
        numbers = {"dtypes": [dtype], "shapes": [shape]}
        one = np.ones((), map_onnx_to_numpy_type(dtype))
        one = ctx.make_const(make_name("one"), one).output[0]
        erf = ctx.make_node("Erf", node.input, **numbers).output[0]
        ctx.make_node("Sub", [one, erf], outputs=node.output, **numbers)
