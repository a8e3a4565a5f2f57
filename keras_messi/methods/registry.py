"""The methods, and the compression of a single layer by one of them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_messi.calibration.statistics import (
    Calibration,
    InputSample,
    bias_correction,
    output_error,
    second_moment,
)
from keras_messi.configs import Config, MessiConfig, PQConfig, RoundingConfig
from keras_messi.layers.kinds import (
    has_matrix,
    kind_with_matrix,
    matrix_name,
    plain_type,
    read_matrix,
)
from keras_messi.methods import messi, pq, rounding
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.rounding import multiplied_out, quantized_whole
from keras_messi.report import SkipReason


class Compressed(NamedTuple):
    """A compressed layer and its errors.

    Attributes:
        layer: The new layer.
        relative_error: Relative squared error of its matrix.
        output_error: Relative squared error of its outputs on calibration data.
        plain_output_error: The same without what calibration data changed.
        adopted: Changes due to calibration data that were kept.
        dropped: Changes that would have raised the output error.
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
    config: Config,
    calibration: Calibration | None = None,
    numbers: int | None = None,
    weights: np.ndarray | None = None,
) -> Compressed:
    """Compress a layer.

    Args:
        layer: A layer for which `reason_to_skip` gives None.
        config: What to do.
        calibration: What the layer received on calibration data.
        numbers: Numbers to keep under `ranks="budget"`, instead of what the rate says.
            With as many as the matrix has, it is only quantized.
        weights: How much the squared error of each row counts, of shape `(n,)`. With
            calibration, the layer is fitted without them as well, and the better of
            the two by the output error is returned.
    """
    matrix = read_matrix(layer)
    if numbers == matrix.size:
        return _keep_whole(layer, matrix, config, calibration)
    resolve = METHODS[type(config)].resolve
    fit = partial(_fit, layer, matrix, numbers=numbers, calibration=calibration)
    weighted = partial(fit, weights=weights)
    if calibration is None:
        return resolve(weighted, config, matrix.shape, numbers)[1]
    resolved, best = resolve(weighted, config, matrix.shape, numbers)
    plain = fit(resolved)
    learned = METHODS[type(config)].learned
    if plain.error < best.error:
        best = plain._replace(dropped=(learned, *plain.dropped))
    elif plain.error > best.error:
        best = best._replace(adopted=(learned, *best.adopted))
    return best._replace(plain_output_error=plain.plain_output_error)


def fit_layer(
    layer: keras.Layer,
    config: Config,
    calibration: Calibration | None,
    weights: np.ndarray | None,
) -> Compressed:
    """Compress a layer as all that is known says, whether that helps or not.

    Args:
        layer: A layer for which `reason_to_skip` gives None.
        config: What to do; its `num_clusters` must not be "auto".
        calibration: What the layer received on calibration data.
        weights: How much the squared error of each row counts, of shape `(n,)`.
    """
    return _fit(
        layer,
        read_matrix(layer),
        config,
        numbers=None,
        calibration=calibration,
        weights=weights,
    )


def _keep_whole(
    layer: keras.Layer,
    matrix: np.ndarray,
    config: Config,
    calibration: Calibration | None,
) -> Compressed:
    """All numbers of a layer, in fewer bits."""
    assert isinstance(config, MessiConfig)
    assert isinstance(config.quantization, str)
    new = quantized_whole(layer, config.quantization)
    return _measured(new, matrix, multiplied_out(new), calibration)


def _fit(
    layer: keras.Layer,
    matrix: np.ndarray,
    config: Config,
    *,
    numbers: int | None,
    calibration: Calibration | None,
    weights: np.ndarray | None = None,
) -> Compressed:
    """Compress a layer, with the bias corrected if that lowers the output error."""
    method = METHODS[type(config)]
    moment = None
    if weights is not None and isinstance(calibration, InputSample):
        moment = second_moment(calibration, centred=layer.use_bias)
    one = LayerMatrix(layer, matrix, weights, numbers, moment)
    new = method.new_layer(one, config)
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


class Method(NamedTuple):
    """What is special to one way to compress.

    Attributes:
        classes: Types of layers that it takes, and of the new ones.
        new_layer: From a `LayerMatrix` and a config.
        resolve: From a function that fits a config, a config, the shape of a matrix and
            the numbers to keep: the config without "auto", and its fit.
        reason_by_size: Why the size of a matrix is in the way, as (reason, detail).
        learned: What it takes from calibration data.
    """

    classes: dict[type, type]
    new_layer: Callable[..., keras.Layer]
    resolve: Callable[..., tuple[Config, Compressed]]
    reason_by_size: Callable[..., tuple[str, str] | None]
    learned: str


METHODS: dict[type, Method] = {
    MessiConfig: Method(
        messi.CLASSES,
        messi.factored,
        messi.with_best_k,
        messi.reason_by_size,
        "row weights",
    ),
    PQConfig: Method(
        pq.CLASSES, pq.coded, pq.as_it_is, pq.reason_by_size, "row weights"
    ),
    RoundingConfig: Method(
        rounding.CLASSES,
        rounding.rounded,
        pq.as_it_is,
        rounding.reason_by_size,
        "error feedback",
    ),
}


def is_supported(layer: keras.Layer, config: Any) -> bool:
    """Whether there is a compressor for such a layer and such a config."""
    return (
        type(config) in METHODS and plain_type(layer) in METHODS[type(config)].classes
    )


def reason_to_skip(layer: keras.Layer, config: Config) -> tuple[str, str] | None:
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
    return METHODS[type(config)].reason_by_size(layer, matrix, config)


def _why_not_supported(layer: keras.Layer) -> str:
    base = kind_with_matrix(layer)
    return f"a {base.__name__} with code of its own" if base else ""
