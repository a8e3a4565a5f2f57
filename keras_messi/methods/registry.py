"""The methods, and the compression of a single layer by one of them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_messi.calibration.statistics import (
    Calibration,
    InputMoments,
    bias_correction,
    output_error,
)
from keras_messi.configs import (
    Config,
    EntropyCodingConfig,
    MessiConfig,
    PQConfig,
    RoundingConfig,
)
from keras_messi.layers.kinds import (
    has_matrix,
    kind_with_matrix,
    matrix_name,
    plain_type,
    read_matrix,
)
from keras_messi.layers.unfolded.table import why_not_unfolded
from keras_messi.methods import entropy_coding, pq, rounding
from keras_messi.methods.matrix import LayerMatrix, matrix_of
from keras_messi.methods.rounding import multiplied_out, quantized_whole
from keras_messi.methods.subspaces import messi
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
    plain = matrix_of(layer, numbers)
    if numbers == plain.values.size:
        return _keep_whole(plain, config, calibration)
    method, fit = METHODS[type(config)], partial(_fit, calibration=calibration)
    known = plain.told(calibration, weights)
    resolved, best = method.resolve(partial(fit, known), config, known)
    if calibration is None:
        return best
    other = fit(plain, resolved)
    learned = method.learned(best.layer)
    if other.error < best.error:
        best = other._replace(dropped=(learned, *other.dropped))
    elif other.error > best.error:
        best = best._replace(adopted=(learned, *best.adopted))
    return best._replace(plain_output_error=other.plain_output_error)


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
    return _fit(matrix_of(layer).told(calibration, weights), config, calibration)


def _keep_whole(
    matrix: LayerMatrix, config: Config, calibration: Calibration | None
) -> Compressed:
    """All numbers of a layer, in fewer bits."""
    assert isinstance(config, MessiConfig)
    assert isinstance(config.quantization, str)
    new = quantized_whole(matrix.layer, config.quantization)
    return _measured(
        new, matrix.values, multiplied_out(new, len(matrix.values)), calibration
    )


def _fit(
    one: LayerMatrix, config: Config, calibration: Calibration | None
) -> Compressed:
    """Compress a layer, with the bias corrected if that lowers the output error."""
    layer, matrix = one.layer, one.values
    new = METHODS[type(config)].new_layer(one, config)
    approximation = keras.ops.convert_to_numpy(getattr(new, matrix_name(layer)))
    found = _measured(new, matrix, approximation, calibration)
    if isinstance(calibration, InputMoments) and layer.use_bias:
        return _corrected(found, calibration, matrix, approximation)
    return found


def _measured(
    new: keras.Layer,
    matrix: np.ndarray,
    approximation: np.ndarray,
    calibration: Calibration | None,
) -> Compressed:
    """A new layer with the errors of its matrix and, if they can be known, outputs."""
    found = Compressed(new, relative_error(matrix, approximation))
    if calibration is None:
        return found
    error = output_error(calibration, matrix, approximation)
    return found._replace(output_error=error, plain_output_error=error)


def _corrected(
    found: Compressed,
    inputs: InputMoments,
    matrix: np.ndarray,
    approximation: np.ndarray,
) -> Compressed:
    """With the bias that makes up for the mean error of the outputs, if that helps."""
    error = output_error(inputs, matrix, approximation, corrected=True)
    if error >= found.error:
        return found._replace(dropped=("bias correction",))
    bias = found.layer.bias
    bias.assign(bias + bias_correction(inputs, matrix, approximation))
    return found._replace(output_error=error, adopted=("bias correction",))


def relative_error(matrix: np.ndarray, approximation: np.ndarray) -> float:
    """Squared error of a matrix over the sum of its squares."""
    error = np.sum(np.square(matrix - approximation), dtype=np.float64)
    energy = np.sum(np.square(matrix), dtype=np.float64)
    return float(error / energy) if energy else 0.0


class Method(NamedTuple):
    """What is special to one way to compress.

    Attributes:
        classes: Types of layers that it takes, and of the new ones.
        new_layer: From a `LayerMatrix` and a config.
        resolve: From a function that fits a config, a config and a `LayerMatrix`: the
            config for a fit without calibration data, and the best fit.
        reason_by_size: Why the size of a matrix is in the way, as (reason, detail).
        learned: What a new layer has from calibration data.
    """

    classes: dict[type, type]
    new_layer: Callable[..., keras.Layer]
    resolve: Callable[..., tuple[Config, Compressed]]
    reason_by_size: Callable[..., tuple[str, str] | None]
    learned: Callable[[keras.Layer], str]


METHODS: dict[type, Method] = {
    MessiConfig: Method(
        messi.CLASSES,
        messi.factored,
        messi.with_best_form,
        messi.reason_by_size,
        messi.learned,
    ),
    PQConfig: Method(
        pq.CLASSES, pq.coded, pq.as_it_is, pq.reason_by_size, lambda _: "row weights"
    ),
    RoundingConfig: Method(
        rounding.CLASSES,
        rounding.rounded,
        pq.as_it_is,
        rounding.reason_by_size,
        lambda _: "error feedback",
    ),
    EntropyCodingConfig: Method(
        entropy_coding.CLASSES,
        entropy_coding.rounded,
        pq.as_it_is,
        entropy_coding.reason_by_size,
        lambda _: "error feedback",
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
    if base is not None:
        return f"a {base.__name__} with code of its own"
    return why_not_unfolded(layer)
