"""MESSI with product-quantized coordinates, for `MessiConfig` with a `PQConfig`."""

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_messi.configs import MessiConfig, PQConfig
from keras_messi.layers import MessiPQDense, MessiPQEmbedding
from keras_messi.layers.kinds import by_kind
from keras_messi.layers.numbers.codes import pack_codes
from keras_messi.layers.replacement import replacement
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.pq import stored_size as size_of_codes
from keras_messi.methods.subspaces.clustering import Factors, code, rank_in_blocks
from keras_messi.methods.subspaces.sides import factors_of

CLASSES = by_kind(MessiPQDense, MessiPQEmbedding)


def factored(matrix: LayerMatrix, config: MessiConfig) -> keras.Layer:
    """A layer of factors with codes; `num_clusters` must not be "auto"."""
    assert isinstance(config.quantization, PQConfig)
    factors = in_blocks(factors_of(matrix, config), config.block_size)
    found = code_coordinates(factors, config.quantization)
    return replacement(
        matrix.layer,
        CLASSES,
        "factors_regularizer",
        found.arguments(),
        found.stored(),
    )


class CodedFactors(NamedTuple):
    """A matrix as clusters of rows, each with codes for coordinates on a basis."""

    factors: Factors
    codebooks: np.ndarray  # (num_codebooks, num_codewords, block_size)
    codes: list[np.ndarray]  # (n_c, j_c / block_size) each

    def stored(self) -> dict[str, np.ndarray]:
        """The factors under the names that the layers store them by."""
        num_codewords = self.codebooks.shape[1]
        packed = {
            f"codes_{c}": pack_codes(codes, num_codewords)
            for c, codes in enumerate(self.codes)
        }
        return {**self.factors.stored(), "codebooks": self.codebooks, **packed}

    def arguments(self) -> dict[str, Any]:
        """The arguments that a layer takes for these factors."""
        num_codebooks, num_codewords, block_size = self.codebooks.shape
        return {
            **self.factors.arguments(),
            "block_size": block_size,
            "num_codewords": num_codewords,
            "num_codebooks": num_codebooks,
        }


def code_coordinates(factors: Factors, config: PQConfig) -> CodedFactors:
    """Give each block of coordinates a codeword, of codebooks that clusters share.

    Args:
        factors: Factors whose ranks are multiples of the block size. The squared error
            of a row is that of its coordinates, as bases are orthonormal, or were so
            before they were solved for the second moment of the inputs.
        config: Blocks and codebooks.
    """
    n, ranks = len(factors.assignments), [len(basis) for basis in factors.bases]
    rows = np.zeros((n, max(ranks)), factors.bases[0].dtype)
    counts = np.zeros((n, max(ranks) // config.block_size))
    for c, (own, coordinates) in enumerate(_clusters(factors)):
        rows[own, : ranks[c]] = coordinates
        # Blocks that a cluster lacks pull no codeword.
        counts[own, : ranks[c] // config.block_size] = 1
    if factors.weights is not None:
        counts *= factors.weights[:, np.newaxis]
    codebooks, codes = code(rows, config, counts)
    own_codes = [
        codes[own, : rank // config.block_size]
        for rank, (own, _) in zip(ranks, _clusters(factors), strict=True)
    ]
    return CodedFactors(factors, codebooks, own_codes)


def _clusters(factors: Factors) -> list[tuple[np.ndarray, np.ndarray]]:
    """Which rows are in each cluster, and their coordinates."""
    return [(factors.assignments == c, u) for c, u in enumerate(factors.coordinates)]


def in_blocks(factors: Factors, block_size: int) -> Factors:
    """The same factors with the directions of each cluster interleaved over blocks.

    Directions come strongest first. There and back, each block gets one of the
    strongest, one of the next and so on, so that all blocks have about as much to tell
    and no codebook has to serve the strongest directions alone. A cluster of fewer rows
    than a block has numbers is filled up with zeros.
    """
    coordinates, bases = [], []
    for u, v in zip(factors.coordinates, factors.bases, strict=True):
        lacking = -len(v) % block_size
        order = interleaved(len(v) + lacking, block_size)
        coordinates.append(np.pad(u, ((0, 0), (0, lacking)))[:, order])
        bases.append(np.pad(v, ((0, lacking), (0, 0)))[order])
    return factors._replace(coordinates=coordinates, bases=bases)


def interleaved(rank: int, block_size: int) -> np.ndarray:
    """An order of directions, block after block: integers of shape (rank,)."""
    turns = np.arange(rank).reshape(block_size, -1)  # (turns, blocks)
    turns[1::2] = turns[1::2, ::-1]
    return turns.T.ravel()


def stored_size(n: int, d: int, config: MessiConfig, itemsize: int) -> int:
    """Bytes of bases, codebooks and codes of equal ranks as stored on disk, at most."""
    assert isinstance(config.quantization, PQConfig)
    rank = rank_in_blocks(config.rank_for(n, d), config.block_size, d)
    codes = size_of_codes(n, rank // config.block_size, config.quantization, itemsize)
    return codes + int(config.num_clusters) * rank * d * itemsize
