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
class InputSample:
    """Some of the inputs that a Dense layer received, each as likely as any other.

    Attributes:
        rows: Float32 array of shape `(m, inputs)`, from all positions of all batches.
    """

    rows: np.ndarray

    @property
    def size(self) -> int:
        """Inputs of the layer."""
        return self.rows.shape[1]


Calibration = TokenCounts | InputSample


@dataclass(frozen=True, eq=False)
class CalibrationStatistics:
    """What the layers of a model receive on calibration data.

    Attributes:
        by_path: `TokenCounts` of an Embedding and `InputSample` of a Dense layer, by
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


def input_mean(sample: InputSample) -> np.ndarray:
    """Mean of each input, float64 of shape `(inputs,)`."""
    return sample.rows.mean(axis=0, dtype=np.float64)


def bias_correction(
    sample: InputSample, matrix: np.ndarray, approximation: np.ndarray
) -> np.ndarray:
    """What to add to the bias to make up for the mean error of the outputs."""
    return input_mean(sample) @ (matrix - approximation)


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


def input_spread(sample: InputSample) -> np.ndarray:
    """Standard deviation of each input, float64 of shape `(inputs,)`."""
    return sample.rows.std(axis=0, dtype=np.float64)


def second_moment(sample: InputSample, *, centred: bool) -> np.ndarray:
    """Mean of x'x over the inputs x, or of their deviations from the mean.

    Returns:
        Float32 array of shape `(inputs, inputs)`.
    """
    rows = sample.rows
    if centred:
        rows = rows - input_mean(sample).astype(np.float32)
    return rows.T @ rows / len(rows)


def output_error(
    calibration: Calibration,
    matrix: np.ndarray,
    approximation: np.ndarray,
    *,
    corrected: bool = False,
) -> float:
    """Relative squared error of what a layer computes with another matrix.

    For an Embedding that is the error of the rows, weighted by counts. For a Dense
    layer, on the sampled inputs x, it is
    `sum |x (A - B) - c|^2 / sum |x A - mean(x) A|^2`, where c is what the bias
    corrects: `mean(x) (A - B)`, or nothing.

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
        mean = input_mean(calibration).astype(np.float32)
        centred = calibration.rows - mean
        inputs = centred if corrected else calibration.rows
        error = np.sum(_squared_norms(inputs @ difference))
        energy = np.sum(_squared_norms(centred @ matrix))
    if energy == 0:
        return float("inf") if error else 0.0
    return float(error / energy)


def _squared_norms(rows: np.ndarray) -> np.ndarray:
    return np.sum(np.square(rows, dtype=np.float64), axis=1)
