"""Layers that store a matrix as k pairs of factors. They need Keras only."""

from keras_messi.layers._lookup import static_lookup
from keras_messi.layers.messi_dense import MessiDense
from keras_messi.layers.messi_embedding import MessiEmbedding

__all__ = ["MessiDense", "MessiEmbedding", "static_lookup"]
