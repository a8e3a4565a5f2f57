"""Quant-Noise of product quantization: training with codewords for some blocks."""

from typing import Any

import keras
from keras import ops

from keras_messi.layers._checks import check_positive
from keras_messi.layers.noise.block_noise import BlockNoise


@keras.saving.register_keras_serializable(package="keras_messi")
class CodewordNoise(BlockNoise):
    """A Dense or Embedding layer that computes with some codewords while it trains.

    As `QuantNoise`, with the codeword of a block instead of zeros: the paper's exact
    noise for product quantization. All blocks of the weight share one codebook.

    Codewords don't follow the weight by themselves. They are zero until they are
    fitted, by `keras_messi.training.refit_codewords` or, at the start of every
    epoch, by the callback `RefitCodewords`.

    Args:
        layer: A `keras.layers.Dense`, `Embedding` or `ReversibleEmbedding`.
        num_codewords: Number of codewords, not more than the weight has blocks.
        rate: Chance of each block to be replaced, at least 0 and less than 1.
        block_size: Consecutive numbers in a block: inputs of a unit of a Dense layer,
            or of a row of an Embedding. It must divide the number of these.
        seed: Seed of the blocks that are drawn.

    Call arguments:
        inputs: What the layer inside takes; what else that takes is passed on.
        training: Whether to replace blocks.

    Attributes:
        codebook: The codewords, of shape `(num_codewords, block_size)`. Not trainable.
        codes: Which codeword each block has: integers, one row for each input of an
            Embedding, or one column for each unit of a Dense layer. Not trainable.

    Reference:
        - [Fan et al., 2020](https://arxiv.org/abs/2004.07320)
    """

    def __init__(
        self,
        layer: keras.Layer,
        num_codewords: int = 256,
        rate: float = 0.1,
        block_size: int = 8,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(layer, rate, block_size, seed, **kwargs)
        check_positive("num_codewords", num_codewords)
        self.num_codewords = int(num_codewords)

    def _add_weights(self) -> None:
        rows, blocks, size, units = self._cut
        if self.num_codewords > rows * blocks * units:
            raise ValueError(
                f"`num_codewords` must be at most {rows * blocks * units}, the number "
                f"of blocks of layer '{self.layer.name}'. "
                f"Received: num_codewords={self.num_codewords}"
            )
        self.codebook = self._add_frozen("codebook", (self.num_codewords, size))
        shape = (blocks, units) if self._axis == 0 else (rows, blocks)
        self.codes = self._add_frozen("codes", shape, dtype="int32")

    def _add_frozen(self, name: str, shape: tuple[int, int], **options: Any) -> Any:
        return self.add_weight(
            name=name, shape=shape, initializer="zeros", trainable=False, **options
        )

    def _replacement(self) -> Any:
        rows, blocks, size, units = self._cut
        words = ops.take(self.codebook, self.codes, axis=0)
        words = ops.reshape(words, (rows, blocks, units, size))
        return ops.transpose(words, (0, 1, 3, 2))

    def read_blocks(self) -> Any:
        """The blocks of the weight, `(num_blocks, block_size)`, in order of `codes`."""
        cut = ops.reshape(self._weight, self._cut)
        return ops.reshape(ops.transpose(cut, (0, 1, 3, 2)), (-1, self.block_size))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_codewords": self.num_codewords}
