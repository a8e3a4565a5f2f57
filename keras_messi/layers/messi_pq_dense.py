"""A Dense layer whose kernel is k pairs of factors, with codes for coordinates."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_messi.layers._coded_coordinates import CodedCoordinates
from keras_messi.layers.messi_dense import MessiDense


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiPQDense(MessiDense, CodedCoordinates):
    """Densely connected layer whose kernel rows lie on k subspaces, at codewords.

    It computes what `MessiDense` does. But the coordinates `U_c` are cut into blocks of
    `block_size` columns, and each block of each row is the codeword that its code says,
    in the codebook of that block. All clusters share the codebooks; one of lower rank
    uses those of the first blocks.

    It stores `num_codebooks * num_codewords * block_size` numbers of codebooks,
    `units * sum_c j_c` of bases and the bias; and a code of `ceil(log2(num_codewords))`
    bits for each block and one cluster id for each input. Training moves bases, bias
    and codebooks, each codeword by the mean of the gradients of the blocks that use it,
    and leaves the codes.

    Args:
        units: Positive integer, dimensionality of the output space.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster: multiples of
            `block_size`.
        block_size: Positive integer, numbers in a codeword.
        num_codewords: Positive integer up to 65,536, codewords in each codebook.
        num_codebooks: Positive integer, a divisor of the blocks of the widest
            coordinates: 1 for one codebook that all blocks share, as many as blocks
            for one each, or any number in between, for as many groups of blocks.
        cluster_sizes: List of k integers, number of inputs in each cluster. By default
            the inputs are dealt out evenly.
        **kwargs: What `MessiDense` takes. `coordinates_initializer` fills the
            codebooks, `factors_regularizer` is applied to codebooks and bases, and
            `quantization` is that of the bases.

    Input shape:
        `(batch_size, ..., input_dim)`.

    Output shape:
        `(batch_size, ..., units)`.

    Example:

    >>> import keras, keras_messi
    >>> layer = keras_messi.layers.MessiPQDense(
    ...     10, num_clusters=2, rank=6, block_size=3, num_codewords=5
    ... )
    >>> layer(keras.ops.ones((4, 20))).shape == (4, 10)
    True
    >>> layer.num_parameters  # 5 * 3 + 2 * 6 * 10 + 10
    145

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290)
        - [Jégou et al., 2011](https://doi.org/10.1109/TPAMI.2010.57)
    """

    def __init__(
        self,
        units: int,
        num_clusters: int,
        rank: int | Sequence[int],
        block_size: int,
        num_codewords: int,
        num_codebooks: int = 1,
        cluster_sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            num_clusters,
            rank,
            cluster_sizes,
            block_size=block_size,
            num_codewords=num_codewords,
            num_codebooks=num_codebooks,
            **kwargs,
        )
