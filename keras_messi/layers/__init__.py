"""Layers that store a matrix in a smaller form. They need Keras only."""

from keras_messi.layers._lookup import static_lookup
from keras_messi.layers.messi_dense import MessiDense
from keras_messi.layers.messi_embedding import MessiEmbedding
from keras_messi.layers.messi_pq_dense import MessiPQDense
from keras_messi.layers.messi_pq_embedding import MessiPQEmbedding
from keras_messi.layers.pq_dense import PQDense
from keras_messi.layers.pq_embedding import PQEmbedding

__all__ = [
    "MessiDense",
    "MessiEmbedding",
    "MessiPQDense",
    "MessiPQEmbedding",
    "PQDense",
    "PQEmbedding",
    "static_lookup",
]
