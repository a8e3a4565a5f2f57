"""A Dense layer whose kernel is product-quantized."""

from typing import Any

import keras
from keras import ops

from keras_messi.layers._coded_matrix import CodedMatrix
from keras_messi.layers._dense import DenseOutputs


@keras.saving.register_keras_serializable(package="keras_messi")
class PQDense(DenseOutputs, CodedMatrix):
    """Densely connected layer whose kernel is made of codewords.

    The weights of each unit are cut along the inputs into `input_dim / block_size`
    blocks. Each is the codeword that its code says, in the codebook of that block.

    It stores `num_codebooks * num_codewords * block_size` numbers, the bias and a code
    of `ceil(log2(num_codewords))` bits for each block of each unit. Training moves the
    codebooks, each codeword by the mean of the gradients of the blocks that use it, and
    leaves the codes.

    Where the number of inputs in a batch is known to be half of `block_size` at most,
    and there are fewer codewords than units, blocks of the inputs are multiplied by the
    codewords and the products added up. Otherwise the inputs are multiplied by the
    kernel, which is put together for it: for more inputs that was faster, by up to
    twenty times for 512 of them and kernels from 784 x 300 to 1536 x 384 on a CPU.

    Args:
        units: Positive integer, dimensionality of the output space.
        block_size: Positive integer, a divisor of the number of inputs: numbers in a
            codeword.
        num_codewords: Positive integer up to 65,536, codewords in each codebook.
        num_codebooks: Positive integer, a divisor of the number of blocks: 1 for one
            codebook that all blocks share, as many as blocks for one each, or any
            number in between, for as many groups of consecutive blocks.
        codebooks_initializer: Initializer for the codebooks.
        codebooks_regularizer: Regularizer applied to the codebooks.
        **kwargs: What `keras.layers.Dense` takes for activation and bias, and what
            every layer takes, such as `name` and `dtype`.

    Input shape:
        `(batch_size, ..., input_dim)`

    Output shape:
        `(batch_size, ..., units)`

    Example:

    >>> import keras, keras_messi
    >>> layer = keras_messi.layers.PQDense(30, block_size=4, num_codewords=16)
    >>> layer(keras.ops.ones((5, 20))).shape == (5, 30)
    True
    >>> tuple(layer.codebooks.shape), tuple(layer.codes.shape)
    ((1, 16, 4), (30, 5))

    Reference:
        - [Jégou et al., 2011](https://doi.org/10.1109/TPAMI.2010.57)
        - [Stock et al., 2020](https://arxiv.org/abs/1907.05686)
    """

    def __init__(
        self,
        units: int,
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        codebooks_initializer: Any = "glorot_uniform",
        codebooks_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units=units,
            block_size=block_size,
            num_codewords=num_codewords,
            num_codebooks=num_codebooks,
            codebooks_initializer=codebooks_initializer,
            codebooks_regularizer=codebooks_regularizer,
            **kwargs,
        )

    def _add_weights(self, n: int) -> None:
        self._add_codes(self.units, n)
        self._add_bias()

    def _products(self, inputs: Any) -> Any:
        return self._times_transposed(inputs, self.compute_dtype)

    @property
    def kernel(self) -> Any:
        """The dense kernel of shape `(input_dim, units)`, put together; read-only."""
        return ops.transpose(self._matrix())
