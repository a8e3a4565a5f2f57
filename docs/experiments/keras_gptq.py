"""GPTQ of Keras for single layers: `model.quantize("gptq")` is for language models."""

import keras
import numpy as np
from keras.src.quantizers.gptq import GPTQ

from keras_messi.layers.replacement import copy_layer

BLOCK_SIZE = 128


def gptq(layer: keras.layers.Dense, moment: np.ndarray, bits: int) -> keras.Layer:
    """A copy of a Dense layer in 2, 3, 4 or 8 bits, in Keras's default blocks of 128.

    Args:
        layer: A built layer.
        moment: Second moment of its inputs, of shape `(inputs, inputs)`.
        bits: Bits of a weight.
    """
    config = keras.quantizers.GPTQConfig(
        None, None, weight_bits=bits, group_size=BLOCK_SIZE
    )
    copy = copy_layer(layer)
    copy.quantize("gptq", config=config)
    work = GPTQ(copy, config)
    work.hessian = keras.ops.convert_to_tensor(moment, "float32")
    work.quantize_and_correct_layer()
    return copy
