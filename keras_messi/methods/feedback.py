"""Rounding of a kernel with feedback: each error is made up for by what follows."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped]

from keras_messi.calibration.statistics import InputMoments, second_moment
from keras_messi.layers.numbers.levels import best_scales, levels_of, nearest_levels

# Share of the mean of the diagonal of the moment that is added to it.
_DAMPING = 0.01
# Rows that are rounded before what they leave to all rows after is added up.
_BATCH = 64


class Feedback(NamedTuple):
    """How the rows of a kernel make up for the errors of others.

    Attributes:
        order: Which row comes when: from the largest input on, of shape `(n,)`.
        triangle: Upper triangle of shape `(n, n)`, in that order: the Cholesky factor
            of the inverse of the damped second moment of the inputs. Row i says how
            later rows make up for an error in row i, and its diagonal how little such
            an error counts then.
        diagonal: Second moment of each input, of shape `(n,)`.
    """

    order: np.ndarray
    triangle: np.ndarray
    diagonal: np.ndarray


def round_with_feedback(
    kernel: np.ndarray, feedback: Feedback, bits: int, spacing: str, block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Round a kernel to levels so that little is lost of its outputs (GPTQ).

    Args:
        kernel: Array of shape `(n, d)`.
        feedback: How its rows make up for errors.
        bits: Bits of the levels.
        spacing: Of the levels.
        block_size: Inputs of a unit that share a scale.

    Returns:
        Indices of levels, uint8 of shape `(d, n)`, and scales, float16 of shape
        `(d, ceil(n / block_size))`.

    Reference:
        - [Frantar et al., 2023](https://arxiv.org/abs/2210.17323), Algorithm 1.
    """
    scales = _scales(kernel, feedback.diagonal, bits, spacing, block_size)
    levels, wide = levels_of(bits, spacing), scales.astype(np.float32)
    codes = np.empty(kernel.shape, np.uint8)

    def round_row(i: int, row: np.ndarray) -> np.ndarray:
        own = wide[i // block_size]
        codes[i] = nearest_levels(row / np.where(own == 0, 1, own), bits, spacing)
        return levels[codes[i]] * own

    round_rows(kernel, feedback, round_row)
    return np.ascontiguousarray(codes.T), np.ascontiguousarray(scales.T)


def round_rows(
    kernel: np.ndarray,
    feedback: Feedback,
    round_row: Callable[[int, np.ndarray], np.ndarray],
) -> None:
    """Round rows one after another, the rest of them making up for each error.

    Args:
        kernel: Array of shape `(n, d)`.
        feedback: How its rows make up for errors.
        round_row: From a row's index and what it is to be, what it is rounded to.
    """
    order, triangle = feedback.order, feedback.triangle
    rest = kernel[order].astype(np.float32)
    for start in range(0, len(rest), _BATCH):
        stop = min(start + _BATCH, len(rest))
        errors = np.empty((stop - start, rest.shape[1]), np.float32)
        for i in range(start, stop):
            error = rest[i] - round_row(int(order[i]), rest[i])
            errors[i - start] = error / triangle[i, i]
            later = triangle[i, i + 1 : stop]
            rest[i + 1 : stop] -= later[:, np.newaxis] * errors[i - start]
        rest[stop:] -= triangle[start:stop, stop:].T @ errors


@lru_cache(maxsize=1)
def feedback_for(inputs: InputMoments, centred: bool) -> Feedback:
    """`feedback_of` the second moment of inputs, kept for the next candidate."""
    return feedback_of(second_moment(inputs, centred=centred))


def feedback_of(moment: np.ndarray) -> Feedback:
    """How rows make up for errors, by the second moment of the inputs, (n, n)."""
    diagonal = np.diag(moment)
    order = np.argsort(-diagonal, kind="stable")
    damped = moment[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices_from(damped)] += _DAMPING * (np.trace(damped) / len(damped))
    if not damped.any():
        damped = np.eye(len(damped))
    inverse = cho_solve(cho_factor(damped), np.eye(len(damped)))
    triangle = np.linalg.cholesky(inverse).T.astype(np.float32)
    return Feedback(order, triangle, diagonal)


def _scales(
    kernel: np.ndarray,
    diagonal: np.ndarray,
    bits: int,
    spacing: str,
    block_size: int,
) -> np.ndarray:
    """Scales of each block of inputs, float16 of shape (blocks, d)."""
    weights = (diagonal + _DAMPING * (np.mean(diagonal) or 1)).astype(np.float32)
    return np.stack(
        [
            best_scales(
                kernel[start : start + block_size].T,
                bits,
                spacing,
                weights[np.newaxis, start : start + block_size],
            )
            for start in range(0, len(kernel), block_size)
        ]
    )
