"""Rounding of a kernel with feedback: each error is made up for by what follows."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped]

from keras_messi.layers.numbers.levels import best_scales, levels_of, nearest_levels

# Share of the mean of the diagonal of the moment that is added to it.
_DAMPING = 0.01
# Rows that are rounded before what they leave to all rows after is added up.
_BATCH = 64


def round_with_feedback(
    kernel: np.ndarray, moment: np.ndarray, bits: int, spacing: str, block_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Round a kernel so that little is lost of its outputs (GPTQ).

    Rows are rounded one after another, those of the largest inputs first. What a row
    loses, all rows that are not rounded yet make up for, as the second moment of the
    inputs has them do best.

    Args:
        kernel: Array of shape `(n, d)`.
        moment: Second moment of the inputs, of shape `(n, n)`.
        bits: Bits of the levels.
        spacing: Of the levels.
        block_size: Inputs of a unit that share a scale.

    Returns:
        Indices of levels, uint8 of shape `(d, n)`, and scales, float16 of shape
        `(d, ceil(n / block_size))`.

    Reference:
        - [Frantar et al., 2023](https://arxiv.org/abs/2210.17323), Algorithm 1.
    """
    n, d = kernel.shape
    diagonal = np.diag(moment)
    blocks = np.arange(n) // block_size
    scales = _scales(kernel, diagonal, bits, spacing, block_size)
    order = np.argsort(-diagonal, kind="stable")
    # An upper triangle: row i says how later rows make up for an error in row i.
    feedback = _feedback(moment[np.ix_(order, order)])
    rest = kernel[order].astype(np.float32)
    codes = np.empty((n, d), np.uint8)
    levels = levels_of(bits, spacing)
    wide = scales.astype(np.float32)
    for start in range(0, n, _BATCH):
        stop = min(start + _BATCH, n)
        errors = np.empty((stop - start, d), np.float32)
        for i in range(start, stop):
            own = wide[blocks[order[i]]]
            divided = rest[i] / np.where(own == 0, 1, own)
            found = nearest_levels(divided, bits, spacing)
            codes[order[i]] = found
            errors[i - start] = (rest[i] - levels[found] * own) / feedback[i, i]
            later = feedback[i, i + 1 : stop]
            rest[i + 1 : stop] -= later[:, np.newaxis] * errors[i - start]
        rest[stop:] -= feedback[start:stop, stop:].T @ errors
    return np.ascontiguousarray(codes.T), np.ascontiguousarray(scales.T)


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


def _feedback(moment: np.ndarray) -> np.ndarray:
    """Upper Cholesky factor of the inverse of the damped moment, float32."""
    damped = moment.astype(np.float64)
    damped[np.diag_indices_from(damped)] += _DAMPING * (np.trace(damped) / len(damped))
    if not damped.any():
        damped = np.eye(len(damped))
    inverse = cho_solve(cho_factor(damped), np.eye(len(damped)))
    return np.linalg.cholesky(inverse).T.astype(np.float32)
