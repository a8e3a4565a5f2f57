"""Layers that use a stored matrix, or train one for storage: a use and a storage each.

`dense` and `embedding` say where the matrix is used, `unfolded` how other kinds of
layers use a Dense layer, `storage` how the matrix is stored and `numbers` how its
numbers are. Keras only: layers may import `_keras_internals`.
"""

from keras_messi.layers.dense import (
    MessiDense,
    MessiPQDense,
    MessiRoundedDense,
    PQDense,
    RoundedDense,
)
from keras_messi.layers.embedding import (
    MessiEmbedding,
    MessiPQEmbedding,
    MessiRoundedEmbedding,
    PQEmbedding,
    RoundedEmbedding,
)
from keras_messi.layers.entropy_coded import (
    EntropyCodedDense,
    EntropyCodedEmbedding,
    MessiEntropyCodedDense,
    MessiEntropyCodedEmbedding,
)
from keras_messi.layers.noise.codeword_noise import CodewordNoise
from keras_messi.layers.noise.quant_noise import QuantNoise
from keras_messi.layers.storage.lookup import static_lookup
from keras_messi.layers.unfolded.base import UnfoldedLayer
from keras_messi.layers.unfolded.convolutions.convolution import CompressedConv
from keras_messi.layers.unfolded.convolutions.grouped_convolution import (
    CompressedGroupedConv,
)
from keras_messi.layers.unfolded.convolutions.separable_convolution import (
    CompressedSeparableConv,
)
from keras_messi.layers.unfolded.einsum_dense import CompressedEinsumDense
from keras_messi.layers.unfolded.recurrent import CompressedRecurrent
from keras_messi.layers.unfolded.untied_embedding import UntiedEmbedding

__all__ = [
    "CompressedConv",
    "CompressedEinsumDense",
    "CompressedGroupedConv",
    "CompressedRecurrent",
    "CompressedSeparableConv",
    "CodewordNoise",
    "EntropyCodedDense",
    "EntropyCodedEmbedding",
    "MessiDense",
    "MessiEmbedding",
    "MessiEntropyCodedDense",
    "MessiEntropyCodedEmbedding",
    "MessiPQDense",
    "MessiPQEmbedding",
    "MessiRoundedDense",
    "MessiRoundedEmbedding",
    "PQDense",
    "PQEmbedding",
    "QuantNoise",
    "RoundedDense",
    "RoundedEmbedding",
    "UnfoldedLayer",
    "UntiedEmbedding",
    "static_lookup",
]
