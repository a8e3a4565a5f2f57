"""Calibration statistics of layers, and what is computed from them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

DAMPING = 0.3
# Entries at the beginning of a vocabulary that are no words: unused ones, letters.
_SPECIAL = 1000


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """How often each row of an embedding was looked up.

    Attributes:
        counts: Integer array of shape `(input_dim,)`.
    """

    counts: np.ndarray

    @property
    def size(self) -> int:
        """Rows of the table."""
        return len(self.counts)


@dataclass(frozen=True, eq=False)
class InputMoments:
    """Moments of the inputs that a Dense layer received, at all positions.

    Attributes:
        count: How many inputs there were.
        mean: Float64 array of shape `(inputs,)`.
        covariance: Mean product of deviations from the mean, float32 of shape
            `(inputs, inputs)`; of wide layers only its diagonal, `(inputs,)`.
    """

    count: int
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def size(self) -> int:
        """Inputs of the layer."""
        return len(self.mean)

    @property
    def is_joint(self) -> bool:
        """Whether it is known how inputs go together."""
        return self.covariance.ndim == 2


Calibration = TokenCounts | InputMoments


@dataclass(frozen=True, eq=False)
class CalibrationStatistics:
    """What the layers of a model receive on calibration data.

    Attributes:
        by_path: `TokenCounts` of an Embedding and `InputMoments` of a Dense layer, by
            the path of the layer. Layers that no batch reached are missing.
        inputs: The first batch of inputs of the model, if they are known.
        outputs: All floats that the model returns for these, without padding.
    """

    by_path: dict[str, Calibration]
    inputs: Any = None
    outputs: list[np.ndarray] | None = None


def row_weights(counts: np.ndarray, damping: float = DAMPING) -> np.ndarray:
    """Weights of the rows of a table by how often they were looked up, of mean 1.

    Undamped, rows that are looked up once in a while would not count at all.

    Args:
        counts: Integer array of shape `(input_dim,)`.
        damping: Exponent of `1 + counts`: 0 weighs all rows alike.

    Returns:
        Float64 array of shape `(input_dim,)`.
    """
    weights = np.power(1.0 + counts, damping)
    return weights / weights.mean()


def vocabulary_weights(n: int) -> np.ndarray:
    """Weights of the rows of a vocabulary in the order of frequency, by Zipf's law.

    That is the order of what tokenizers learn from text: word pieces, byte pairs.

    Args:
        n: Rows of the table.

    Returns:
        Float64 array of shape `(n,)`.
    """
    weights = 1 / (np.arange(n) + _SPECIAL)
    return weights / weights.mean()


def bias_correction(
    inputs: InputMoments, matrix: np.ndarray, approximation: np.ndarray
) -> np.ndarray:
    """What to add to the bias to make up for the mean error of the outputs."""
    return inputs.mean @ (matrix - approximation)


def weights_of_rows(
    calibration: Calibration, prior: np.ndarray | None = None
) -> np.ndarray:
    """How much the squared error of each row of a matrix counts; not all are zero.

    Args:
        calibration: What the layer received.
        prior: Array of shape `(n,)`, how much rows of a table count before anything is
            looked up, by default all the same. The more is looked up, the less it
            matters.
    """
    if isinstance(calibration, TokenCounts):
        counts = calibration.counts
        # A token for sixteen rows says as much as is known without any.
        share = counts.sum() / (counts.sum() + len(counts) / 16)
        weights = row_weights(counts) ** share
        weights *= 1 if prior is None else prior ** (1 - share)
        return weights / weights.mean()
    spread = input_spread(calibration)
    # Of one row of inputs, or of equal ones, nothing is learned.
    return spread if spread.any() else np.ones_like(spread)


def input_spread(inputs: InputMoments) -> np.ndarray:
    """Standard deviation of each input, float64 of shape `(inputs,)`."""
    known = inputs.covariance
    return np.sqrt((np.diag(known) if inputs.is_joint else known).astype(np.float64))


def second_moment(inputs: InputMoments, *, centred: bool) -> np.ndarray:
    """Mean of x'x over the inputs x, or of their deviations from the mean.

    Returns:
        Float32 array of shape `(inputs, inputs)`.
    """
    if centred:
        return inputs.covariance
    mean = inputs.mean.astype(np.float32)
    return inputs.covariance + mean[:, np.newaxis] * mean


def output_error(
    calibration: Calibration,
    matrix: np.ndarray,
    approximation: np.ndarray,
    *,
    corrected: bool = False,
) -> float:
    """Relative squared error of what a layer computes with another matrix.

    For an Embedding that is the error of the rows, weighted by counts. For a Dense
    layer it is the mean over its inputs x of
    `|x (A - B) - c|^2 / |x A - mean(x) A|^2`, above and below, where c is what the bias
    corrects: `mean(x) (A - B)`, or nothing. Of wide layers the inputs are taken to be
    uncorrelated.

    Args:
        calibration: What the layer received.
        matrix: The matrix A of the layer, of shape `(n, d)`.
        approximation: The matrix B in its place, of the same shape.
        corrected: Whether the bias of the Dense layer makes up for the mean error.

    Returns:
        The error: 0 for equal matrices, infinite if any other differs from a layer
        whose outputs don't.
    """
    difference = matrix - approximation
    if isinstance(calibration, TokenCounts):
        weights = calibration.counts.astype(np.float64)
        error = weights @ _squared_norms(difference)
        energy = weights @ _squared_norms(matrix)
    else:
        error = _variance(calibration, difference)
        energy = _variance(calibration, matrix)
        if not corrected:
            error += float(np.sum(np.square(calibration.mean @ difference)))
    if energy == 0:
        return float("inf") if error else 0.0
    return float(error / energy)


def _variance(inputs: InputMoments, matrix: np.ndarray) -> float:
    """Mean squared deviation of `x @ matrix` from its mean, for inputs x."""
    if inputs.is_joint:
        spread = inputs.covariance @ matrix
    else:
        spread = inputs.covariance[:, np.newaxis] * matrix
    return max(0.0, float(np.sum(matrix * spread, dtype=np.float64)))


def _squared_norms(rows: np.ndarray) -> np.ndarray:
    return np.sum(np.square(rows, dtype=np.float64), axis=1)
