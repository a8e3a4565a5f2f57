"""What calibration data tells, against slow oracles."""

import numpy as np
import pytest

from keras_messi.calibration.statistics import (
    InputMoments,
    TokenCounts,
    bias_correction,
    input_spread,
    output_error,
    row_weights,
)
from tests.keras_messi.models import moments_of


def test_rows_weigh_more_the_more_they_are_used_but_damped():
    counts = np.array([0, 3, 0, 80])
    weights = [(1 + count) ** 0.3 for count in counts]
    expected = [weight / (sum(weights) / 4) for weight in weights]
    np.testing.assert_allclose(row_weights(counts), expected, rtol=1e-12)
    assert np.array_equal(row_weights(counts, damping=0), np.ones(4))


def slow_error(rows, matrix, approximation, correction):
    """Relative squared error of the outputs, one input at a time."""
    mean = sum(rows) / len(rows)
    error = sum(
        np.sum((x @ matrix - x @ approximation - correction) ** 2) for x in rows
    )
    return error / sum(np.sum((x @ matrix - mean @ matrix) ** 2) for x in rows)


def test_error_of_outputs_agrees_with_one_input_at_a_time():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((60, 7)) + 2).astype("float32")
    matrix, change = rng.standard_normal((2, 7, 5)).astype("float32")
    approximation, inputs = matrix + 0.1 * change, moments_of(rows)
    np.testing.assert_allclose(
        input_spread(inputs) ** 2, np.diag(np.cov(rows.T, bias=True)), rtol=1e-5
    )
    for corrected in (False, True):
        correction = bias_correction(inputs, matrix, approximation) * corrected
        found = output_error(inputs, matrix, approximation, corrected=corrected)
        expected = slow_error(rows, matrix, approximation, correction)
        assert found == pytest.approx(expected, rel=1e-4)


def test_inputs_of_wide_layers_are_taken_to_be_uncorrelated():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 7)) @ np.diag(np.arange(1.0, 8))
    matrix, change = rng.standard_normal((2, 7, 5))
    joint = moments_of(rows)
    diagonal = np.diag(joint.covariance)
    wide = InputMoments(60, joint.mean, diagonal)
    alone = InputMoments(60, joint.mean, np.diag(diagonal))
    assert np.array_equal(input_spread(wide), input_spread(joint))
    for corrected in (False, True):
        found, expected = (
            output_error(x, matrix, matrix + change, corrected=corrected)
            for x in (wide, alone)
        )
        assert found == pytest.approx(expected, rel=1e-5)


def test_error_of_rows_is_weighted_by_counts():
    rng = np.random.default_rng(0)
    matrix, change = rng.standard_normal((2, 4, 5))
    found = output_error(TokenCounts(np.array([0, 1, 7, 2])), matrix, matrix + change)
    tokens = [1, *7 * [2], 3, 3]
    expected = sum(np.sum(change[t] ** 2) for t in tokens)
    expected /= sum(np.sum(matrix[t] ** 2) for t in tokens)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("corrected", [False, True])
def test_outputs_that_never_change_have_no_relative_error(corrected):
    matrix, inputs = np.ones((3, 2)), moments_of(np.ones((5, 3), "float32"))
    assert output_error(inputs, matrix, matrix, corrected=corrected) == 0
    error = output_error(inputs, matrix, 2 * matrix, corrected=corrected)
    assert error == (0 if corrected else np.inf)
