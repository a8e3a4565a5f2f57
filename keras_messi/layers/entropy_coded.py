"""Layers whose matrix is stored as integers that are entropy coded on disk."""

import keras

from keras_messi.layers.dense import MessiDense, StoredDense
from keras_messi.layers.embedding import MessiEmbedding, StoredEmbedding
from keras_messi.layers.storage.few_bits.entropy_coded import EntropyCoded
from keras_messi.layers.storage.few_bits.entropy_coded_factors import (
    EntropyCodedFactors,
)


@keras.saving.register_keras_serializable(package="keras_messi")
class EntropyCodedDense(StoredDense):
    """Densely connected layer whose kernel is made of integers, entropy coded on disk.

    Each number is an integer times the scale of its input. In memory it takes one or
    two bytes, on disk the fewer bits, the more often the integer occurs. The kernel is
    not trained.

    Args:
        units: Positive integer, dimensionality of the output space.
        integer_dtype: `"int8"` or `"int16"`: type of the integers in memory.
        **kwargs: What `keras.layers.Dense` takes for activation and bias, and what
            every layer takes, such as `name` and `dtype`.

    Input shape:
        `(batch_size, ..., n)`.

    Output shape:
        `(batch_size, ..., units)`.

    Example:

    >>> import keras, keras_messi
    >>> layer = keras_messi.layers.EntropyCodedDense(10)
    >>> layer(keras.ops.ones((4, 20))).shape == (4, 10)
    True

    Reference:
        - [Han et al., 2016](https://arxiv.org/abs/1510.00149), Section 4, for entropy
          coding of weights.
    """

    storage_class = EntropyCoded


@keras.saving.register_keras_serializable(package="keras_messi")
class EntropyCodedEmbedding(StoredEmbedding):
    """Embedding layer whose table is made of integers, entropy coded on disk.

    Each number is an integer times the scale of its row. In memory it takes one or two
    bytes, on disk the fewer bits, the more often the integer occurs. The table is not
    trained.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        integer_dtype: `"int8"` or `"int16"`: type of the integers in memory.
        **kwargs: `mask_zero`, `reverse_dtype` and `logit_soft_cap` as `MessiEmbedding`
            has them, and what every layer takes, such as `name` and `dtype`.

    Input shape:
        Integers of shape `(batch_size, ...)`; in reverse numbers of shape
        `(batch_size, ..., output_dim)`.

    Output shape:
        `(batch_size, ..., output_dim)`; in reverse `(batch_size, ..., input_dim)`.

    Example:

    >>> import keras_messi, numpy as np
    >>> layer = keras_messi.layers.EntropyCodedEmbedding(20, 10)
    >>> layer(np.array([[0, 19, 5]])).shape == (1, 3, 10)
    True
    """

    storage_class = EntropyCoded


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiEntropyCodedDense(MessiDense):
    """Densely connected layer whose kernel rows lie on k subspaces, entropy coded.

    It computes what `MessiDense` does, on inputs of the same shape. But each number of
    a factor is an integer times a scale of its row. In memory it takes one or two
    bytes, on disk the fewer bits, the more often the integer occurs. Factors are not
    trained.

    Args:
        units: Positive integer, dimensionality of the output space.
        num_clusters: Positive integer, number of clusters k, up to 256.
        rank: Rank j of every cluster, or a list of one rank per cluster.
        cluster_sizes: List of k integers, number of inputs in each cluster. By default
            the inputs are spread evenly.
        integer_dtype: `"int8"` or `"int16"`: type of the coordinates in memory.
        **kwargs: What `MessiDense` takes.

    Example:

    >>> import keras, keras_messi
    >>> layer = keras_messi.layers.MessiEntropyCodedDense(10, 2, rank=6)
    >>> layer(keras.ops.ones((4, 20))).shape == (4, 10)
    True

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290)
    """

    storage_class = EntropyCodedFactors


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiEntropyCodedEmbedding(MessiEmbedding):
    """Embedding layer whose rows lie on k subspaces, entropy coded on disk.

    It computes what `MessiEmbedding` does, tied logits included. But each number of a
    factor is an integer times a scale of its row. In memory it takes one or two bytes,
    on disk the fewer bits, the more often the integer occurs. Factors are not trained.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        num_clusters: Positive integer, number of clusters k, up to 256.
        rank: Rank j of every cluster, or a list of one rank per cluster.
        cluster_sizes: List of k integers, number of tokens in each cluster. By default
            the tokens are spread evenly.
        integer_dtype: `"int8"` or `"int16"`: type of the coordinates in memory.
        **kwargs: What `MessiEmbedding` takes.

    Example:

    >>> import keras_messi, numpy as np
    >>> layer = keras_messi.layers.MessiEntropyCodedEmbedding(20, 10, 2, rank=6)
    >>> layer(np.array([[0, 19, 5]])).shape == (1, 3, 10)
    True

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290)
    """

    storage_class = EntropyCodedFactors
