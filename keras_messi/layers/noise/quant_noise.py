"""Quant-Noise: training with blocks of a weight missing."""

from typing import Any

import keras
from keras import ops

from keras_messi.layers.noise.block_noise import BlockNoise


@keras.saving.register_keras_serializable(package="keras_messi")
class QuantNoise(BlockNoise):
    """A Dense or Embedding layer that computes without some blocks while it trains.

    In training, a call computes with `W' = W + stop_gradient(noisy(W) - W)`, where
    `noisy(W)` has zeros in the place of blocks that are drawn anew each time. So the
    gradient of `W'` reaches all of `W`, the blocks left out too. `W` itself, the bias,
    and what the layer computes in inference stay as they are.

    The network learns to bear errors in blocks, which a product quantization makes
    later. Zeros approximate codewords without clustering, as in the paper. See
    `CodewordNoise` for codewords, `keras_messi.training` for whole models.

    Unlike dropout, the remaining blocks are not scaled up.

    Args:
        layer: A `keras.layers.Dense`, `Embedding` or `ReversibleEmbedding`.
        rate: Chance of each block to be left out, at least 0 and less than 1.
        block_size: Consecutive numbers in a block: inputs of a unit of a Dense layer,
            or of a row of an Embedding. It must divide the number of these.
        seed: Seed of the blocks that are drawn.

    Call arguments:
        inputs: What the layer inside takes; what else that takes is passed on.
        training: Whether to leave blocks out.

    Example:

    >>> import keras, keras_messi, numpy as np
    >>> layer = keras_messi.layers.QuantNoise(keras.layers.Dense(10), rate=0.5, seed=0)
    >>> x = np.ones((4, 16), "float32")
    >>> bool(np.all(layer(x) == layer.layer(x)))
    True
    >>> bool(np.all(layer(x, training=True) == layer.layer(x)))
    False

    Reference:
        - [Fan et al., 2020](https://arxiv.org/abs/2004.07320)
    """

    def _replacement(self) -> Any:
        return ops.zeros((), self.variable_dtype)
