"""MESSI with coordinates in a few bits, for `MessiConfig` with a `RoundingConfig`."""

import keras
import numpy as np

from keras_messi.configs import MessiConfig, RoundingConfig
from keras_messi.layers import MessiRoundedDense, MessiRoundedEmbedding
from keras_messi.layers.kinds import by_kind
from keras_messi.layers.numbers.codes import pack_codes
from keras_messi.layers.numbers.levels import (
    from_levels,
    random_rotation,
    round_to_levels,
)
from keras_messi.layers.replacement import replacement
from keras_messi.layers.storage.quantized_factors import quantize_bases
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.subspaces.sides import factors_of

CLASSES = by_kind(MessiRoundedDense, MessiRoundedEmbedding)


def factored(matrix: LayerMatrix, config: MessiConfig) -> keras.Layer:
    """A layer of factors, with coordinates that are levels, and bases as integers.

    The basis of each cluster is turned at random, which changes no row, and makes
    coordinates about normal. Once they are rounded, it is fitted to them again.
    """
    rounding = config.quantization
    assert isinstance(rounding, RoundingConfig)
    factors = factors_of(matrix, config)
    stored, scales, bases = {}, [], []
    for c, (u, v) in enumerate(zip(factors.coordinates, factors.bases, strict=True)):
        turn = random_rotation(len(v), rounding.seed)
        u, v = u @ turn, turn.T @ v
        codes, own_scales = round_to_levels(u, rounding.bits, rounding.spacing, len(v))
        rounded = from_levels(
            codes, own_scales, rounding.bits, rounding.spacing, len(v)
        )
        own = factors.weights_of(c)
        bases.append(fitted_again(u, rounded, v, own))
        scales.append(own_scales[:, 0])
        stored[f"codes_{c}"] = pack_codes(codes, 2**rounding.bits)
    n, d = len(factors.assignments), factors.bases[0].shape[1]
    mode = _mode_of_bases(n, d, len(bases))
    stored |= {
        "row_scales": np.concatenate(scales),
        "assignments": factors.assignments,
        **quantize_bases(np.concatenate(bases), mode),
    }
    arguments = {
        **factors.arguments(),
        "bits": rounding.bits,
        "levels": rounding.spacing,
        "quantization": mode,
    }
    return replacement(matrix.layer, CLASSES, "factors_regularizer", arguments, stored)


def fitted_again(
    u: np.ndarray, rounded: np.ndarray, v: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """The basis with which rounded coordinates are nearest to `u @ v`."""
    scaled = rounded if weights is None else rounded * weights[:, np.newaxis]
    gram = scaled.T @ rounded
    gram[np.diag_indices_from(gram)] += 1e-6 * (np.trace(gram) / len(gram) or 1)
    return np.linalg.solve(gram, scaled.T @ u) @ v


def _mode_of_bases(n: int, d: int, k: int) -> str:
    """int8, or int4 where there are more numbers in bases than in coordinates."""
    return "int8" if n > k * d else "int4"


def stored_size(n: int, d: int, config: MessiConfig) -> int:
    """Bytes of bases, scales and coordinates of equal ranks as stored on disk."""
    assert isinstance(config.quantization, RoundingConfig)
    k, rank = int(config.num_clusters), config.rank_for(n, d)
    bases = k * rank * d // (1 if _mode_of_bases(n, d, k) == "int8" else 2)
    coordinates = -(-n * rank * config.quantization.bits // 8)
    return coordinates + 2 * n + bases + 4 * k * rank
