"""MESSI: the matrix as factors around k subspaces, for `MessiConfig`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_messi.configs import (
    EntropyCodingConfig,
    MessiConfig,
    PQConfig,
    RoundingConfig,
)
from keras_messi.layers import MessiDense, MessiEmbedding
from keras_messi.layers.kinds import by_kind
from keras_messi.layers.replacement import replacement
from keras_messi.layers.sizes import stored_bytes
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.subspaces import (
    messi_entropy_coding,
    messi_pq,
    messi_rounding,
)
from keras_messi.methods.subspaces.bisection import bisect_maximum
from keras_messi.methods.subspaces.sides import clustered_shape, factors_of, side_of
from keras_messi.report import SkipReason

# How many numbers of clusters "auto" tries.
MAX_TRIALS = 6

# Share of the error that one cluster more must take away for its operations. In LiteRT,
# it adds a fifth to the time of a look-up at one row of inputs, and a tenth to that of
# a Dense layer, up to five clusters (docs/benchmarks/clusters.md).
CLUSTER_PRICE = 0.01

CLASSES = by_kind(MessiDense, MessiEmbedding)


def factored(matrix: LayerMatrix, config: MessiConfig) -> keras.Layer:
    """A layer of factors; `num_clusters` must not be "auto"."""
    if isinstance(config.quantization, PQConfig):
        return messi_pq.factored(matrix, config)
    if isinstance(config.quantization, RoundingConfig):
        return messi_rounding.factored(matrix, config)
    if isinstance(config.quantization, EntropyCodingConfig):
        return messi_entropy_coding.factored(matrix, config)
    factors = factors_of(matrix, config)
    new = replacement(
        matrix.layer,
        CLASSES,
        "factors_regularizer",
        factors.arguments(),
        factors.stored(),
    )
    if config.quantization:
        new.quantize(config.quantization)
    return new


def learned(layer: keras.Layer) -> str:
    """What a new layer has from calibration data."""
    return "second moment" if isinstance(layer, MessiDense) else "row weights"


def with_best_form(
    fit: Callable[[MessiConfig], Any], config: MessiConfig, matrix: LayerMatrix
) -> tuple[MessiConfig, Any]:
    """The config for a fit without data, and the fit of the least error with them.

    Where the config leaves it open what is clustered, and inputs are known, both sides
    are tried, and a single cluster.

    Args:
        fit: What fits a config and has an `error`.
        config: What to do.
        matrix: The matrix that is fitted.
    """
    if config.side != "auto" or side_of(matrix, config) == "inputs":
        return _with_best_k(fit, config, matrix)
    resolved, best = _with_best_k(fit, replace(config, side="inputs"), matrix)
    k = min(int(resolved.num_clusters), matrix.values.shape[1])
    others = [replace(config, side="outputs", num_clusters=x) for x in {1, k}]
    return resolved, min([best, *map(fit, others)], key=lambda one: one.error)


def _with_best_k(
    fit: Callable[[MessiConfig], Any], config: MessiConfig, matrix: LayerMatrix
) -> tuple[MessiConfig, Any]:
    """A config and its fit, with the clusters of the least price if "auto"."""
    if config.num_clusters != "auto":
        return config, fit(config)
    found: dict[int, Any] = {}

    def merit(k: int) -> float:
        found[k] = fit(replace(config, num_clusters=k))
        return -_price(found[k])

    bisect_maximum(merit, _most_clusters(config, matrix), MAX_TRIALS)
    best = min(found.values(), key=_price)
    return replace(config, num_clusters=best.layer.num_clusters), best


def _price(fit: Any) -> float:
    """The error of a fit times its bytes, and more for each cluster but the first.

    As many bytes fewer as the error is larger, in percent, are a tie.
    """
    operations = 1 + CLUSTER_PRICE * (fit.layer.num_clusters - 1)
    return fit.error * stored_bytes([fit.layer]) * operations


def _most_clusters(config: MessiConfig, matrix: LayerMatrix) -> int:
    """The largest k of which each cluster can have a direction."""
    n, d = clustered_shape(matrix, config)
    if config.rank is None:
        n = min(n, ((matrix.numbers or config.numbers_for(n * d)) - n) // d)
    return min(n, config.max_clusters)


def reason_by_size(
    layer: keras.Layer, matrix: np.ndarray, config: MessiConfig
) -> tuple[str, str] | None:
    """Why the size of a matrix is in the way, as (reason, detail)."""
    n, d = clustered_shape(LayerMatrix(layer, matrix), config)
    if config.num_clusters == "auto":
        config = replace(config, num_clusters=1)
    k, rank = int(config.num_clusters), config.rank_for(n, d)
    if n < k:
        return SkipReason.TOO_FEW_ROWS, f"num_clusters={k}, {n} rows"
    if rank > d:
        return SkipReason.RANK_TOO_LARGE, f"rank={rank}, width {d}"
    if config.block_size > d:
        detail = f"block_size={config.block_size}, width {d}"
        return SkipReason.UNEVEN_BLOCKS, detail
    if config.scope == "model":
        return None  # the share of the layer is not known yet
    if rank < 1:
        needed = n + k * d
        return SkipReason.NO_RANK, (
            f"rate={config.rate} with num_clusters={k} leaves rank 0; rank 1 takes "
            f"{needed} of {n * d} numbers"
        )
    size = stored_size(n, d, config, matrix.itemsize)
    if size >= matrix.nbytes:
        return SkipReason.WOULD_GROW, (
            f"rank {rank} with num_clusters={k} takes {size} of {matrix.nbytes} bytes"
        )
    return None


def stored_size(n: int, d: int, config: MessiConfig, itemsize: int) -> int:
    """Bytes of the factors of an (n, d) matrix as stored on disk, at most.

    Clusters with fewer rows than the rank take less. Where coordinates become codes, it
    is that of equal ranks.
    """
    k, rank = int(config.num_clusters), config.rank_for(n, d)
    ids = n * np.min_scalar_type(k - 1).itemsize if k > 1 else 0
    if isinstance(config.quantization, PQConfig):
        return messi_pq.stored_size(n, d, config, itemsize) + ids
    if isinstance(config.quantization, RoundingConfig):
        return messi_rounding.stored_size(n, d, config) + ids
    if isinstance(config.quantization, EntropyCodingConfig):
        return messi_entropy_coding.stored_size(n, d, config) + ids
    numbers = rank * (n + k * d) if config.is_uniform else config.numbers_for(n * d)
    if config.quantization is None:
        return numbers * itemsize + ids
    # Half a byte more for each row that ends in half a byte, and a scale each.
    codes = numbers * {"int8": 2, "int4": 1}[config.quantization] // 2 + (n + d) // 2
    return codes + 2 * n + 4 * k * rank + ids
