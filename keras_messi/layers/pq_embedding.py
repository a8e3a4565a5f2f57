"""An Embedding layer whose table is product-quantized."""

from typing import Any

import keras
from keras import ops

from keras_messi.layers._coded_matrix import CodedMatrix
from keras_messi.layers._embedding import EmbeddingOutputs, nan_out_of_range


@keras.saving.register_keras_serializable(package="keras_messi")
class PQEmbedding(EmbeddingOutputs, CodedMatrix):
    """Embedding layer whose rows are codewords, one after another.

    The vector of token t is cut into `output_dim / block_size` blocks. Each is the
    codeword that its code says, in the codebook of that block.

    It stores `num_codebooks * num_codewords * block_size` numbers and a code of
    `ceil(log2(num_codewords))` bits for each block of each token. A look-up gathers the
    codes of the tokens and the codewords of the codes, and multiplies nothing. Training
    moves the codebooks, each codeword by the mean of the gradients of the blocks that
    use it, and leaves the codes.

    Called with `reverse=True` it turns hidden states into logits over the vocabulary,
    tied to the same codebooks.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        block_size: Positive integer, a divisor of `output_dim`: numbers in a codeword.
        num_codewords: Positive integer up to 65,536, codewords in each codebook.
        num_codebooks: Positive integer, a divisor of the number of blocks: 1 for one
            codebook that all blocks share, as many as blocks for one each, or any
            number in between, for as many groups of consecutive blocks.
        mask_zero: Whether the input value 0 is padding that should be masked out.
        codebooks_initializer: Initializer for the codebooks.
        codebooks_regularizer: Regularizer applied to the codebooks.
        **kwargs: `reverse_dtype`, dtype of the logits, by default the compute dtype;
            `logit_soft_cap`, for logits that are
            `tanh(logits / logit_soft_cap) * logit_soft_cap`; and what every layer
            takes, such as `name` and `dtype`.

    Call arguments:
        inputs: Token ids, or hidden states if `reverse`.
        reverse: Whether to compute logits from hidden states.

    Input shape:
        Integers of shape `(batch_size, ...)`; in reverse numbers of shape
        `(batch_size, ..., output_dim)`.

    Output shape:
        `(batch_size, ..., output_dim)`; in reverse `(batch_size, ..., input_dim)`.

    Example:

    >>> import keras_messi, numpy as np
    >>> layer = keras_messi.layers.PQEmbedding(100, 8, block_size=4, num_codewords=16)
    >>> layer(np.array([[0, 99, 5]])).shape == (1, 3, 8)
    True
    >>> tuple(layer.codebooks.shape), tuple(layer.codes.shape)
    ((1, 16, 4), (100, 2))

    Reference:
        - [Jégou et al., 2011](https://doi.org/10.1109/TPAMI.2010.57)
        - [Stock et al., 2020](https://arxiv.org/abs/1907.05686)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        mask_zero: bool = False,
        codebooks_initializer: Any = "glorot_uniform",
        codebooks_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_dim=input_dim,
            output_dim=output_dim,
            block_size=block_size,
            num_codewords=num_codewords,
            num_codebooks=num_codebooks,
            mask_zero=mask_zero,
            codebooks_initializer=codebooks_initializer,
            codebooks_regularizer=codebooks_regularizer,
            **kwargs,
        )
        self._check_width(self.output_dim)

    def _add_weights(self, n: int) -> None:
        self._add_codes(n, self.output_dim)

    def _look_up(self, tokens: Any) -> Any:
        # This is where an id out of range is found: the codes are all in range.
        rows = self._rows(ops.take(self.codes, tokens, axis=0), self.compute_dtype)
        return nan_out_of_range(rows, tokens, self.input_dim)

    def _products(self, states: Any) -> Any:
        return self._times_transposed(states, self._logits_dtype)

    @property
    def embeddings(self) -> Any:
        """The dense table `(input_dim, output_dim)`, put together; read-only."""
        return self._matrix()
