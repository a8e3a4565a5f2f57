"""Product quantization: the matrix as codebooks and codes, for `PQConfig`."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_messi.configs import PQConfig
from keras_messi.layers import PQDense, PQEmbedding
from keras_messi.layers._checks import divisors
from keras_messi.layers.kinds import by_kind, plain_type
from keras_messi.layers.numbers.codes import bits_of, pack_codes
from keras_messi.layers.replacement import replacement
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.subspaces.clustering import code
from keras_messi.report import SkipReason

CLASSES = by_kind(PQDense, PQEmbedding)


def coded(matrix: LayerMatrix, config: PQConfig) -> keras.Layer:
    """A layer of codebooks and codes."""
    layer, values = matrix.layer, matrix.values
    weights = np.ones(len(values)) if matrix.weights is None else matrix.weights
    rows, weights = _cut(layer, values, weights, config.block_size)
    codebooks, codes = code(rows, config, weights)
    num_codebooks, num_codewords, block_size = codebooks.shape
    return replacement(
        layer,
        CLASSES,
        "codebooks_regularizer",
        {
            "block_size": block_size,
            "num_codewords": num_codewords,
            "num_codebooks": num_codebooks,
        },
        {"codebooks": codebooks, "codes": pack_codes(codes, num_codewords)},
    )


def _cut(
    layer: keras.Layer, matrix: np.ndarray, weights: np.ndarray, block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are cut into blocks, and the weight of each block of each."""
    if not _is_transposed(layer):
        num_blocks = matrix.shape[1] // block_size
        return matrix, np.repeat(weights[:, np.newaxis], num_blocks, axis=1)
    of_blocks = weights.reshape(-1, block_size).mean(axis=1)
    shape = (matrix.shape[1], len(of_blocks))
    return np.ascontiguousarray(matrix.T), np.broadcast_to(of_blocks, shape)


def _is_transposed(layer: keras.Layer) -> bool:
    """Whether the columns of the matrix are cut: those of a kernel, one for a unit."""
    return plain_type(layer) is keras.layers.Dense


def as_it_is(
    fit: Callable[[PQConfig], Any], config: PQConfig, *_: Any
) -> tuple[PQConfig, Any]:
    """A config and its fit: nothing in it is "auto"."""
    return config, fit(config)


def reason_by_size(
    layer: keras.Layer, matrix: np.ndarray, config: PQConfig
) -> tuple[str, str] | None:
    """Why the size of a matrix is in the way, as (reason, detail)."""
    rows, width = matrix.shape[::-1] if _is_transposed(layer) else matrix.shape
    if width % config.block_size:
        return SkipReason.UNEVEN_BLOCKS, (
            f"block_size={config.block_size} must divide {width}: one of "
            f"{divisors(width)}"
        )
    num_blocks = width // config.block_size
    books = config.codebooks_for(num_blocks)
    if num_blocks % books:
        return SkipReason.UNEVEN_BLOCKS, (
            f"num_codebooks={books} must divide {num_blocks} blocks: one of "
            f"{divisors(num_blocks)}"
        )
    words = min(config.num_codewords, rows * num_blocks // books)
    size = stored_size(rows, num_blocks, config, matrix.itemsize)
    if size >= matrix.nbytes:
        return SkipReason.WOULD_GROW, (
            f"{books} x {words} codewords of {config.block_size} numbers and the codes "
            f"take {size} of {matrix.nbytes} bytes"
        )
    return None


def stored_size(n: int, num_blocks: int, config: PQConfig, itemsize: int) -> int:
    """Bytes of codebooks and codes for n rows of blocks as stored on disk, at most."""
    books = config.codebooks_for(num_blocks)
    words = min(config.num_codewords, n * num_blocks // books)
    codes = -(-n * num_blocks * bits_of(words) // 8)
    return books * words * config.block_size * itemsize + codes
