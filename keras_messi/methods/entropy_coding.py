"""Rounding to integers that are entropy coded, for `EntropyCodingConfig`."""

import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_messi.configs import EntropyCodingConfig
from keras_messi.layers.entropy_coded import EntropyCodedDense, EntropyCodedEmbedding
from keras_messi.layers.kinds import by_kind
from keras_messi.layers.numbers.entropy import coded_bits, encode
from keras_messi.layers.replacement import replacement
from keras_messi.layers.storage.few_bits.entropy_coded import coded_scales, scales_from
from keras_messi.methods.feedback import Feedback, round_rows
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.steps import (
    dtype_for,
    exponents_for,
    step_for,
    to_integers,
)
from keras_messi.report import SkipReason

CLASSES = by_kind(EntropyCodedDense, EntropyCodedEmbedding)
# Bytes that tables of frequencies take at least.
_TABLES = 128
# Numbers of whole rows from which the entropy at a step is estimated.
_SAMPLE = 200_000
# How often, and how far, the entropy after feedback is brought to what it is to be.
_CORRECTIONS = 3
_TOLERANCE = 0.03


def rounded(matrix: LayerMatrix, config: EntropyCodingConfig) -> keras.Layer:
    """A layer of integers, rounded with feedback if there is a moment.

    The step of a row is inverse to the root of how much its errors count: what is left
    of them once later rows make up for them, or the weight of the row. So a bit gains
    as much everywhere.
    """
    values = matrix.values.astype(np.float32, copy=False)
    feedback = matrix.feedback
    if feedback is None:
        steps = steps_of(matrix.weights, len(values))
    else:
        steps = np.empty(len(values))
        steps[feedback.order] = np.diag(feedback.triangle)
    exponents = exponents_for(steps)
    step = step_of_entropy([values], [exponents], config.bits)
    if feedback is None:
        integers = to_integers(values / scales_from(step, exponents)[:, np.newaxis])
    else:
        step, integers = _fed_back_to(config.bits, values, feedback, step, exponents)
    stored = {
        "integers": encode(integers),
        **coded_scales(step, exponents),
    }
    arguments = {"integer_dtype": dtype_for([integers])}
    return replacement(matrix.layer, CLASSES, None, arguments, stored)


def steps_of(weights: np.ndarray | None, n: int) -> np.ndarray:
    """Relative steps of rows, by how much the squared error of each counts."""
    if weights is None:
        return np.ones(n)
    return 1 / np.sqrt(np.maximum(weights, weights.max() * 1e-6))


def step_of_entropy(
    tables: Sequence[np.ndarray], exponents: Sequence[np.ndarray], bits: float
) -> np.ndarray:
    """The largest step at which integers take so many bits on average.

    Args:
        tables: Arrays of shape `(n_c, d_c)`.
        exponents: For each, by how many fourth roots of 2 the step of each row is
            below the largest, of shape `(n_c,)`.
        bits: Mean bits of an integer.

    Returns:
        Float32 of shape `(1,)`.
    """
    share = min(1.0, _SAMPLE / sum(table.size for table in tables))
    divided = []
    for table, own in zip(tables, exponents, strict=True):
        rows = np.linspace(0, len(table) - 1, math.ceil(share * len(table))).astype(int)
        scaled = table[rows] * 2.0 ** (own[rows, np.newaxis] / 4)
        divided.append(scaled.astype(np.float32))
    size = sum(table.size for table in divided)

    def bits_at(step: float) -> float:
        integers = (to_integers(table / np.float32(step)) for table in divided)
        return sum(map(coded_bits, integers)) / size

    largest = max(float(np.max(np.abs(table))) for table in divided)
    if largest == 0:
        return np.ones(1, np.float32)
    return np.array([step_for(bits, bits_at, largest)], np.float32)


def _fed_back_to(
    bits: float,
    values: np.ndarray,
    feedback: Feedback,
    step: np.ndarray,
    exponents: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """A step and integers of so many bits; what is made up for takes bits as well."""
    for _ in range(_CORRECTIONS):
        integers = _fed_back(values, feedback, step, exponents)
        more = coded_bits(integers) / integers.size - bits
        if abs(more) < _TOLERANCE:
            return step, integers
        step = step * np.float32(2**more)
    return step, _fed_back(values, feedback, step, exponents)


def _fed_back(
    values: np.ndarray, feedback: Feedback, step: np.ndarray, exponents: np.ndarray
) -> np.ndarray:
    scales, integers = scales_from(step, exponents), np.empty(values.shape, np.int16)

    def round_row(i: int, row: np.ndarray) -> np.ndarray:
        integers[i] = to_integers(row / scales[i])
        return integers[i] * scales[i]

    round_rows(values, feedback, round_row)
    return integers


def reason_by_size(
    layer: keras.Layer, matrix: np.ndarray, config: EntropyCodingConfig
) -> tuple[str, str] | None:
    """Why the size of a matrix is in the way: (reason, detail)."""
    size = int(matrix.size * config.bits / 8) + len(matrix) // 2 + _TABLES
    if size >= matrix.nbytes:
        return SkipReason.WOULD_GROW, f"it takes about {size} of {matrix.nbytes} bytes"
    return None
