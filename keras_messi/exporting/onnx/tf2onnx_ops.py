"""An operation of BERT that tf2onnx has no counterpart for."""

from typing import Any

import numpy as np


def complete_tf2onnx() -> None:
    """Teach tf2onnx that erfc(x) = 1 - erf(x): TensorFlow's exact gelu needs it."""
    from tf2onnx.handler import tf_op

    tf_op("Erfc")(_Erfc)


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
