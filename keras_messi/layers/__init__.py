"""Layers that store a matrix in a smaller form, or train it for one. Keras only.

A layer is a use of a matrix (`dense`, `embedding`) on a storage of it (`storage`) in
floats, integers or codes (`numbers`). May import Keras and numpy only.
"""

from keras_messi.layers.dense.messi import MessiDense
from keras_messi.layers.dense.messi_pq import MessiPQDense
from keras_messi.layers.dense.pq import PQDense
from keras_messi.layers.embedding.messi import MessiEmbedding
from keras_messi.layers.embedding.messi_pq import MessiPQEmbedding
from keras_messi.layers.embedding.pq import PQEmbedding
from keras_messi.layers.noise.codeword_noise import CodewordNoise
from keras_messi.layers.noise.quant_noise import QuantNoise
from keras_messi.layers.storage.lookup import static_lookup

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
