"""Layers that store a matrix in a smaller form, or train it for one. Keras only."""

from keras_messi.layers._lookup import static_lookup
from keras_messi.layers.codeword_noise import CodewordNoise
from keras_messi.layers.messi_dense import MessiDense
from keras_messi.layers.messi_embedding import MessiEmbedding
from keras_messi.layers.messi_pq_dense import MessiPQDense
from keras_messi.layers.messi_pq_embedding import MessiPQEmbedding
from keras_messi.layers.pq_dense import PQDense
from keras_messi.layers.pq_embedding import PQEmbedding
from keras_messi.layers.quant_noise import QuantNoise

__all__ = [
    "CodewordNoise",
    "MessiDense",
    "MessiEmbedding",
    "MessiPQDense",
    "MessiPQEmbedding",
    "PQDense",
    "PQEmbedding",
    "QuantNoise",
    "static_lookup",
]
