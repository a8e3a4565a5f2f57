"""Rounding: all numbers of a matrix in fewer bits, ours and as Keras does it."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi._keras_internals import cheap_collections
from keras_messi.configs import RoundingConfig
from keras_messi.layers import RoundedDense, RoundedEmbedding
from keras_messi.layers.kinds import by_kind, is_table, plain_type
from keras_messi.layers.numbers.codes import pack_codes
from keras_messi.layers.numbers.levels import LARGEST, random_rotation, round_to_levels
from keras_messi.layers.replacement import copy_layer, replacement
from keras_messi.methods.feedback import round_with_feedback
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.report import SkipReason


def quantized_whole(layer: keras.Layer, mode: str) -> keras.Layer:
    """A copy of a Dense or Embedding layer with its weights in 8 or 4 bits.

    Activations stay floating-point numbers.

    Args:
        layer: A built layer. It is left as it is.
        mode: `"int8"` or `"int4"`.
    """
    copy = copy_layer(layer)
    with cheap_collections():
        copy.quantize(mode, config=_weights_only(mode))
    return copy


def _weights_only(mode: str) -> Any:
    from keras import quantizers

    if mode == "int8":
        return quantizers.Int8QuantizationConfig(activation_quantizer=None)
    return quantizers.Int4QuantizationConfig(activation_quantizer=None)


def multiplied_out(layer: keras.Layer, n: int) -> np.ndarray:
    """The matrix of n rows that a layer computes with, however it is stored."""
    if isinstance(layer, keras.layers.Embedding):
        return ops.convert_to_numpy(layer(np.arange(n)))
    activation, layer.activation = layer.activation, None
    try:
        outputs = ops.convert_to_numpy(layer(np.eye(n, dtype="float32")))
    finally:
        layer.activation = activation
    return outputs if layer.bias is None else outputs - ops.convert_to_numpy(layer.bias)


CLASSES = by_kind(RoundedDense, RoundedEmbedding)


def rounded(matrix: LayerMatrix, config: RoundingConfig) -> keras.Layer:
    """A layer of levels and scales, rounded with feedback if there is a moment."""
    is_dense = plain_type(matrix.layer) is keras.layers.Dense
    values = matrix.values.astype(np.float32, copy=False)
    width = len(values) if is_dense else values.shape[1]
    block_size = min(config.block_size or width, width)
    form = config.bits, config.spacing, block_size
    stored: dict[str, np.ndarray] = {}
    if is_dense and matrix.feedback is not None and not config.rotate:
        codes, scales = round_with_feedback(values, matrix.feedback, *form)
    else:
        rows = values.T if is_dense else values
        if config.rotate:
            stored["centre"] = rows.mean(axis=0)
            rows = (rows - stored["centre"]) @ random_rotation(width, config.seed).T
        codes, scales = round_to_levels(rows, *form)
    stored |= {"codes": pack_codes(codes, 2**config.bits), "scales": scales}
    arguments = {
        "bits": config.bits,
        "block_size": None if block_size == width else block_size,
        "levels": config.spacing,
        "rotation": config.seed if config.rotate else None,
    }
    return replacement(matrix.layer, CLASSES, None, arguments, stored)


def stored_size(n: int, d: int, config: RoundingConfig, is_dense: bool) -> int:
    """Bytes of the levels and scales of an (n, d) matrix as stored on disk."""
    rows, width = (d, n) if is_dense else (n, d)
    blocks = -(-width // min(config.block_size or width, width))
    centre = 4 * width if config.rotate else 0
    return -(-n * d * config.bits // 8) + 2 * rows * blocks + centre


def reason_by_size(
    layer: keras.Layer, matrix: np.ndarray, config: RoundingConfig
) -> tuple[str, str] | None:
    """Why the size of a matrix, or of its numbers, is in the way: (reason, detail)."""
    n, d = matrix.shape
    size = stored_size(n, d, config, not is_table(layer))
    if size >= matrix.nbytes:
        return SkipReason.WOULD_GROW, f"it takes {size} of {matrix.nbytes} bytes"
    if np.max(np.abs(matrix)) > LARGEST:
        return SkipReason.TOO_LARGE, f"scales are float16, up to {LARGEST:,.0f}"
    return None
