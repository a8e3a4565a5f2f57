"""Stock layers with the kernels, or the configs, of layers of other kinds."""

from typing import Any

import keras
import numpy as np


def dense_for(
    layer: Any,
    matrix: np.ndarray,
    bias: Any,
    kernel: str = "kernel",
    name: str | None = None,
) -> keras.layers.Dense:
    """A Dense layer of Keras with a matrix that is a kernel of another layer.

    Args:
        layer: The layer, of which the new one has the dtype policy, and the
            regularizers and constraints of kernel and bias.
        matrix: The kernel of the new layer.
        bias: The bias, None for none.
        kernel: What the arguments of the layer about that kernel begin with.
        name: Name of the new layer, by default that of the layer.
    """
    dense = keras.layers.Dense(
        matrix.shape[1],
        use_bias=bias is not None,
        name=name or layer.name,
        dtype=layer.dtype_policy,
        **_of_weight(layer, kernel, "kernel"),
        **_of_weight(layer, "bias", "bias"),
    )
    dense.build((None, matrix.shape[0]))
    dense.kernel.assign(matrix)
    if bias is not None:
        dense.bias.assign(bias)
    return dense


def _of_weight(layer: Any, name: str, argument: str) -> dict[str, Any]:
    """Regularizer and constraint of a weight, as arguments of a Dense layer."""
    return {
        f"{argument}_{x}": getattr(layer, f"{name}_{x}")
        for x in ("regularizer", "constraint")
    }


def unbuilt(layer: Any, **changes: Any) -> Any:
    """A layer of the same config without weights, with some changes."""
    return type(layer).from_config({**layer.get_config(), **changes})
