"""Smaller stand-ins for single layers."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_messi.bisection import bisect_maximum
from keras_messi.calibration import (
    Calibration,
    InputSample,
    bias_correction,
    output_error,
    weights_of_rows,
)
from keras_messi.configs import MessiConfig
from keras_messi.factorization import Factors, factorize
from keras_messi.layers import MessiDense, MessiEmbedding
from keras_messi.matrices import (
    has_matrix,
    kind_with_matrix,
    matrix_name,
    plain_type,
    read_matrix,
)
from keras_messi.report import SkipReason
from keras_messi.whole_layers import multiplied_out, quantized_whole

# What num_clusters="auto" may choose, and how many it tries.
MAX_CLUSTERS = 32
MAX_TRIALS = 6


class Compressed(NamedTuple):
    """A smaller stand-in for a layer, and what it costs.

    Attributes:
        layer: The new layer.
        relative_error: Relative squared error of its matrix.
        output_error: Relative squared error of its outputs on calibration data.
        plain_output_error: The same, had nothing been learned from these.
        adopted: What was learned from calibration data.
        dropped: What would have made the output error worse.
    """

    layer: keras.Layer
    relative_error: float
    output_error: float | None = None
    plain_output_error: float | None = None
    adopted: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """What counts: the error of the outputs, if it is known."""
        known = self.output_error
        return self.relative_error if known is None else known


def compress_layer(
    layer: keras.Layer,
    config: MessiConfig,
    calibration: Calibration | None = None,
    numbers: int | None = None,
) -> Compressed:
    """A smaller stand-in for a layer.

    Args:
        layer: A layer for which `reason_to_skip` gives None.
        config: What to do.
        calibration: What the layer received on calibration data.
        numbers: Numbers to keep under `ranks="budget"`, instead of what the rate says.
            With as many as the matrix has, it is only quantized.
    """
    matrix = read_matrix(layer)
    if numbers == matrix.size:
        return _keep_whole(layer, matrix, config, calibration)
    fit = partial(_fit, layer, matrix, numbers=numbers, calibration=calibration)
    if calibration is None:
        return _with_best_k(fit, config, matrix.shape, numbers)
    weights = weights_of_rows(calibration)
    best = _with_best_k(partial(fit, weights=weights), config, matrix.shape, numbers)
    plain = fit(replace(config, num_clusters=best.layer.num_clusters))
    if plain.error < best.error:
        best = plain._replace(dropped=("row weights", *plain.dropped))
    else:
        best = best._replace(adopted=("row weights", *best.adopted))
    return best._replace(plain_output_error=plain.plain_output_error)


def _keep_whole(
    layer: keras.Layer,
    matrix: np.ndarray,
    config: MessiConfig,
    calibration: Calibration | None,
) -> Compressed:
    """All numbers of a layer, in fewer bits."""
    assert config.quantization is not None
    new = quantized_whole(layer, config.quantization)
    return _measured(new, matrix, multiplied_out(new), calibration)


def _with_best_k(
    fit: Callable[[MessiConfig], Compressed],
    config: MessiConfig,
    shape: tuple[int, ...],
    numbers: int | None,
) -> Compressed:
    """The fit of a config, with the number of clusters of the least error if "auto"."""
    if config.num_clusters != "auto":
        return fit(config)
    found: dict[int, Compressed] = {}

    def merit(k: int) -> float:
        found[k] = fit(replace(config, num_clusters=k))
        return -found[k].error

    bisect_maximum(merit, _most_clusters(config, shape, numbers), MAX_TRIALS)
    return min(found.values(), key=lambda one: one.error)


def _most_clusters(
    config: MessiConfig, shape: tuple[int, ...], numbers: int | None
) -> int:
    """The largest k of which each cluster can have a direction."""
    n, d = shape
    if config.rank is None:
        n = min(n, ((numbers or config.numbers_for(n * d)) - n) // d)
    return min(n, MAX_CLUSTERS)


def _fit(
    layer: keras.Layer,
    matrix: np.ndarray,
    config: MessiConfig,
    *,
    numbers: int | None,
    calibration: Calibration | None,
    weights: np.ndarray | None = None,
) -> Compressed:
    """Factor a layer, with the bias corrected if that lowers the output error."""
    factors = factorize(matrix, config, numbers=numbers, weights=weights)
    new = COMPRESSORS[type(config), plain_type(layer)](layer, factors)
    if config.quantization:
        new.quantize(config.quantization)
    approximation = keras.ops.convert_to_numpy(getattr(new, matrix_name(layer)))
    found = _measured(new, matrix, approximation, calibration)
    if isinstance(calibration, InputSample) and layer.use_bias:
        return _corrected(found, calibration, matrix, approximation)
    return found


def _measured(
    new: keras.Layer,
    matrix: np.ndarray,
    approximation: np.ndarray,
    calibration: Calibration | None,
) -> Compressed:
    """A new layer with the errors of its matrix and, if they can be known, outputs."""
    found = Compressed(new, _relative_error(matrix, approximation))
    if calibration is None:
        return found
    error = output_error(calibration, matrix, approximation)
    return found._replace(output_error=error, plain_output_error=error)


def _corrected(
    found: Compressed,
    sample: InputSample,
    matrix: np.ndarray,
    approximation: np.ndarray,
) -> Compressed:
    """With the bias that makes up for the mean error of the outputs, if that helps."""
    error = output_error(sample, matrix, approximation, corrected=True)
    if error >= found.error:
        return found._replace(dropped=("bias correction",))
    bias = found.layer.bias
    bias.assign(bias + bias_correction(sample, matrix, approximation))
    return found._replace(output_error=error, adopted=("bias correction",))


def _relative_error(matrix: np.ndarray, approximation: np.ndarray) -> float:
    error = np.sum(np.square(matrix - approximation), dtype=np.float64)
    energy = np.sum(np.square(matrix), dtype=np.float64)
    return float(error / energy) if energy else 0.0


def _messi_dense(layer: keras.layers.Dense, factors: Factors) -> keras.Layer:
    old = layer.get_config()
    new = MessiDense(
        **factors.arguments(),
        **{key: old.get(key) for key in (*_CARRIED, *_CARRIED_DENSE)},
        factors_regularizer=old["kernel_regularizer"],
    )
    new.build((None, len(factors.assignments)))
    store = factors.stored()
    if layer.use_bias:
        store["bias"] = keras.ops.convert_to_numpy(layer.bias)
    new.load_own_variables(store)
    return new


def _messi_embedding(layer: keras.layers.Embedding, factors: Factors) -> keras.Layer:
    old = layer.get_config()
    carried = [*_CARRIED, *_CARRIED_EMBEDDING]
    if plain_type(layer) is keras.layers.ReversibleEmbedding:
        carried += _CARRIED_REVERSIBLE
    new = MessiEmbedding(
        **factors.arguments(),
        **{key: old[key] for key in carried},
        factors_regularizer=old["embeddings_regularizer"],
    )
    new.build()
    new.load_own_variables(factors.stored())
    return new


_CARRIED = ("name", "trainable", "dtype")
_CARRIED_DENSE = (
    "units",
    "activation",
    "use_bias",
    "bias_initializer",
    "bias_regularizer",
    "bias_constraint",
    "activity_regularizer",
)
_CARRIED_EMBEDDING = ("input_dim", "output_dim", "mask_zero")
_CARRIED_REVERSIBLE = ("reverse_dtype", "logit_soft_cap")

Compressor = Callable[[Any, Factors], keras.Layer]

COMPRESSORS: dict[tuple[type, type], Compressor] = {
    (MessiConfig, keras.layers.Dense): _messi_dense,
    (MessiConfig, keras.layers.Embedding): _messi_embedding,
    (MessiConfig, keras.layers.ReversibleEmbedding): _messi_embedding,
}


def is_supported(layer: keras.Layer, config: Any) -> bool:
    """Whether there is a compressor for such a layer and such a config."""
    return (type(config), plain_type(layer)) in COMPRESSORS


def reason_to_skip(layer: keras.Layer, config: MessiConfig) -> tuple[str, str] | None:
    """Why a layer can't be compressed, as (reason, detail); None if it can.

    Raises:
        ValueError: The weights of the layer are not finite.
    """
    if not (is_supported(layer, config) and has_matrix(layer)):
        return SkipReason.NOT_SUPPORTED, _why_not_supported(layer)
    if not getattr(layer, "tie_weights", True):
        return SkipReason.NOT_SUPPORTED, "its reverse projection is not tied"
    if layer.quantization_mode or layer.lora_enabled:
        return SkipReason.QUANTIZED, ""
    weight = matrix_name(layer)
    if getattr(layer, f"{weight}_constraint") is not None:
        return SkipReason.CONSTRAINED, f"the factors can't keep that of the {weight}"
    matrix = read_matrix(layer)
    if not np.isfinite(matrix).all():
        raise ValueError(
            f"`{weight}` of layer '{layer.name}' must be finite. It holds "
            f"{np.sum(~np.isfinite(matrix))} NaN or infinite values."
        )
    return _reason_by_size(matrix, config)


def _why_not_supported(layer: keras.Layer) -> str:
    base = kind_with_matrix(layer)
    return f"a {base.__name__} with code of its own" if base else ""


def _reason_by_size(matrix: np.ndarray, config: MessiConfig) -> tuple[str, str] | None:
    n, d = matrix.shape
    if config.num_clusters == "auto":
        config = replace(config, num_clusters=1)
    k, rank = int(config.num_clusters), config.rank_for(n, d)
    if n < k:
        return SkipReason.TOO_FEW_ROWS, f"num_clusters={k}, {n} rows"
    if rank > d:
        return SkipReason.RANK_TOO_LARGE, f"rank={rank}, width {d}"
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

    Clusters with fewer rows than the rank take less.
    """
    k, rank = int(config.num_clusters), config.rank_for(n, d)
    ids = n * np.min_scalar_type(k - 1).itemsize if k > 1 else 0
    numbers = rank * (n + k * d) if config.is_uniform else config.numbers_for(n * d)
    if config.quantization is None:
        return numbers * itemsize + ids
    # Half a byte more for each row that ends in half a byte, and a scale each.
    codes = numbers * {"int8": 2, "int4": 1}[config.quantization] // 2 + (n + d) // 2
    return codes + 2 * n + 4 * k * rank + ids
