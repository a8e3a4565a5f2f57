"""Rounding with error feedback, against the update of every weight by hand."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from keras_messi.layers.numbers.levels import (
    best_scales,
    from_levels,
    levels_of,
    round_to_levels,
)
from keras_messi.methods.feedback import feedback_of, round_with_feedback
from tests import reference

# Inputs, units, bits, spacing, block_size: neither 64 nor a block divides the inputs.
CASES = [
    (10, 3, 4, "uniform", 4),
    (10, 3, 2, "normal", 10),
    (70, 5, 3, "normal", 32),
    (64, 2, 1, "normal", 16),
    (130, 4, 8, "uniform", 48),
]
each_case = pytest.mark.parametrize("case", CASES[:4], ids=str)


def correlated(n, num_rows=200, seed=0):
    """Inputs that differ in size and hang together."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(num_rows, n)) @ rng.normal(size=(n, n)) / np.sqrt(n)
    common = rng.normal(size=(num_rows, 3)) @ rng.normal(size=(3, n))
    return ((mixed + 2 * common) * rng.uniform(0.2, 2, n)).astype(np.float32)


def moment_of(x):
    return x.T @ x / len(x)


def kernel_of(n, d, seed=1):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def damped(moment):
    return moment + 0.01 * np.mean(np.diag(moment)) * np.eye(len(moment))


def read(codes, scales, bits, spacing, block_size):
    return from_levels(codes, scales, bits, spacing, block_size).T


def with_feedback(kernel, moment, *form):
    return read(*round_with_feedback(kernel, feedback_of(moment), *form), *form)


def plainly(kernel, *form):
    return read(*round_to_levels(kernel.T, *form), *form)


def output_error(x, kernel, other):
    return np.sum((x @ (kernel - other)) ** 2, dtype=np.float64)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_optimal_brain_quantization_row_by_row(case):
    n, d, bits, spacing, block_size = case
    kernel, x = kernel_of(n, d), correlated(n)
    moment = moment_of(x)
    codes, scales = round_with_feedback(
        kernel, feedback_of(moment), bits, spacing, block_size
    )
    wide = np.repeat(scales.astype(np.float64), block_size, axis=1)[:, :n].T
    levels = levels_of(bits, spacing)
    expected, matrix = reference.round_with_feedback(
        kernel, damped(moment.astype(np.float64)), wide, levels
    )
    found = read(codes, scales, bits, spacing, block_size)
    # A number next to the middle of two levels may be rounded either way, and then
    # what follows differs.
    assert np.mean(expected != codes.T) < 0.02
    same = np.all(expected == codes.T, axis=0)
    assert same.sum() > d // 2
    assert_allclose(found[:, same], matrix[:, same], atol=1e-6)


@each_case
def test_outputs_lose_less_than_by_plain_rounding(case):
    n, d, *form = case
    kernel, x = kernel_of(n, d), correlated(n)
    error = output_error(x, kernel, with_feedback(kernel, moment_of(x), *form))
    assert error < 0.6 * output_error(x, kernel, plainly(kernel, *form))


@each_case
def test_new_inputs_lose_less_as_well(case):
    n, d, *form = case
    kernel, x = kernel_of(n, d), correlated(n, 600)
    found = with_feedback(kernel, moment_of(x[:400]), *form)
    plain = plainly(kernel, *form)
    assert output_error(x[400:], kernel, found) < output_error(x[400:], kernel, plain)


@each_case
@pytest.mark.parametrize("size", [0, 100.0])
def test_inputs_that_are_alike_and_independent_leave_plain_rounding(case, size):
    n, d, *form = case
    kernel, moment = kernel_of(n, d), np.diag(np.full(n, size, np.float32))
    codes, scales = round_with_feedback(kernel, feedback_of(moment), *form)
    plain, plain_scales = round_to_levels(kernel.T, *form)
    assert_array_equal(scales, plain_scales)
    assert_array_equal(codes, plain)


def test_codes_and_scales_have_the_layout_of_plain_rounding():
    kernel, x = kernel_of(10, 3), correlated(10)
    found = round_with_feedback(kernel, feedback_of(moment_of(x)), 4, "uniform", 4)
    expected = round_to_levels(kernel.T, 4, "uniform", 4)
    for one, other in zip(found, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert one.flags.c_contiguous


def test_scales_are_those_of_the_inputs_that_count():
    kernel, weights = kernel_of(12, 3), np.linspace(0.1, 2, 12)
    _, scales = round_with_feedback(
        kernel, feedback_of(np.diag(weights)), 3, "normal", 12
    )
    own = (weights + 0.01 * weights.mean()).astype(np.float32)
    assert_array_equal(scales[:, 0], best_scales(kernel.T, 3, "normal", own[None]))


def test_inputs_that_are_always_zero_do_no_harm():
    n, form = 20, (4, "uniform", 8)
    kernel, x = kernel_of(n, 4), correlated(n)
    x[:, [0, 7, 8, 19]] = 0
    kernel[[0, 7]] *= 5  # which spoils the scales of their blocks
    found = with_feedback(kernel, moment_of(x), *form)
    assert np.all(np.isfinite(found))
    plain = plainly(kernel, *form)
    assert output_error(x, kernel, found) < 0.3 * output_error(x, kernel, plain)
    assert np.sum((kernel - found) ** 2) < 0.2 * np.sum(kernel**2)


def test_one_row_of_inputs_is_enough():
    kernel, x = kernel_of(30, 4), correlated(30, 1)
    found = with_feedback(kernel, moment_of(x), 3, "normal", 16)
    plain = plainly(kernel, 3, "normal", 16)
    assert output_error(x, kernel, found) < 0.05 * output_error(x, kernel, plain)
    relative = np.sum((found - kernel) ** 2) / np.sum(kernel**2)
    assert relative < 0.2


def test_a_block_of_zeros_takes_no_part():
    """Its scale is 0: whatever others leave to it stays an error, which goes on."""
    kernel, x = kernel_of(12, 3), correlated(12)
    kernel[4:8] = 0
    codes, scales = round_with_feedback(
        kernel, feedback_of(moment_of(x)), 4, "uniform", 4
    )
    assert not scales[:, 1].any()
    wide = np.repeat(scales.astype(np.float64), 4, axis=1).T
    moment = damped(moment_of(x).astype(np.float64))
    levels = levels_of(4, "uniform")
    _, expected = reference.round_with_feedback(kernel, moment, wide, levels)
    assert_allclose(read(codes, scales, 4, "uniform", 4), expected, atol=1e-6)


def test_the_kernel_is_left_as_it_is():
    kernel, moment = kernel_of(10, 3), moment_of(correlated(10))
    before = kernel.copy(), moment.copy()
    round_with_feedback(kernel, feedback_of(moment), 4, "uniform", 4)
    assert_array_equal(kernel, before[0])
    assert_array_equal(moment, before[1])


def gptq_of_keras(kernel, inverse, bits, block_size):
    """The kernel as Keras rounds it, with a scale and a zero for each block."""
    gptq = pytest.importorskip("keras.src.quantizers.gptq")
    options = {"weight_bits": bits, "per_channel": True, "symmetric": False}
    config = keras.quantizers.GPTQConfig(
        None, None, **options, group_size=block_size, activation_order=False
    )
    codes, scales, zeros, groups = gptq.gptq_quantize_matrix(
        kernel.T,
        inverse.astype(np.float32),
        group_size=block_size,
        compute_scale_zero=gptq.GPTQQuantizer(config).find_params,
    )
    of_block = keras.ops.convert_to_numpy(groups).astype(int)
    codes, scales, zeros = map(keras.ops.convert_to_numpy, (codes, scales, zeros))
    return (scales[:, of_block] * (codes - zeros[:, of_block].astype(float))).T


@pytest.mark.parametrize(("n", "block_size"), [(24, 12), (20, 20)])
def test_outputs_lose_no_more_than_by_gptq_of_keras(n, block_size):
    kernel, x = kernel_of(n, 64), correlated(n)
    moment = moment_of(x)
    ours = with_feedback(kernel, moment, 4, "uniform", block_size)
    error, inverse = output_error(x, kernel, ours), np.linalg.inv(damped(moment))
    theirs = gptq_of_keras(kernel, inverse, 4, block_size)
    assert error < output_error(x, kernel, theirs)
    # As in the paper: what is rounded leaves the inverse, whose Cholesky factor says
    # how the rest makes up for it.
    theirs = gptq_of_keras(kernel, np.linalg.cholesky(inverse).T, 4, block_size)
    assert error < 1.05 * output_error(x, kernel, theirs)
