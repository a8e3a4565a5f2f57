"""Levels of a few bits, scales, and what rounding to them loses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from keras_messi.layers.numbers.levels import (
    LARGEST,
    best_scales,
    from_levels,
    levels_of,
    nearest_levels,
    random_rotation,
    round_to_levels,
)
from tests import reference

KINDS = [(bits, "uniform") for bits in range(1, 9)]
KINDS += [(bits, "normal") for bits in range(1, 5)]
each_kind = pytest.mark.parametrize(("bits", "spacing"), KINDS)
kinds = st.sampled_from(KINDS)
numbers = st.floats(-1e4, 1e4, width=32)
tables = arrays(np.float32, array_shapes(min_dims=2, max_dims=2), elements=numbers)


def rounded(rows, bits, spacing, block_size):
    codes, scales = round_to_levels(rows, bits, spacing, block_size)
    return from_levels(codes, scales, bits, spacing, block_size)


def squared_error(rows, bits, spacing, block_size):
    return np.sum((rows - rounded(rows, bits, spacing, block_size)) ** 2)


@pytest.mark.parametrize("bits", range(1, 5))
def test_a_normal_level_is_the_mean_of_what_is_next_to_it(bits):
    levels = levels_of(bits, "normal").astype(np.float64)
    assert len(levels) == 2**bits
    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    means = -np.diff(norm.pdf(edges)) / np.diff(norm.cdf(edges))
    assert_allclose(levels, means, atol=1e-5)  # five digits are written down


@pytest.mark.parametrize("bits", range(1, 9))
def test_uniform_levels_are_integers_over_a_power_of_two(bits):
    half = 2 ** (bits - 1)
    expected = [integer / half for integer in range(-half, half)]
    assert levels_of(bits, "uniform").tolist() == expected


@each_kind
def test_the_nearest_level_is_that_of_a_loop(bits, spacing):
    levels, rng = levels_of(bits, spacing), np.random.default_rng(0)
    x = rng.normal(size=200).astype(np.float32)
    x = np.concatenate([x, levels, [0, -1e6, 1e6]])
    expected = [reference.nearest_level(number, levels) for number in x]
    found = nearest_levels(x, bits, spacing)
    assert found.dtype == np.uint8
    assert found.tolist() == expected


@each_kind
def test_levels_times_scales_come_back(bits, spacing):
    rng = np.random.default_rng(0)
    codes = rng.integers(2**bits, size=(3, 10)).astype(np.uint8)
    codes[:, [0, 4, 8]] = 0  # the lowest level in each block, of the greatest size
    scales = rng.choice([-1, 1], (3, 3)) * 2.0 ** rng.integers(-9, 9, (3, 3))
    rows = from_levels(codes, scales.astype(np.float16), bits, spacing, 4)
    assert_allclose(rounded(rows, bits, spacing, 4), rows, rtol=1e-3)  # of a float16


def test_each_number_is_its_level_times_the_scale_of_its_block():
    rows = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    codes, scales = round_to_levels(rows, 3, "normal", 4)
    assert (codes.dtype, scales.dtype, scales.shape) == ("uint8", "float16", (3, 3))
    found = from_levels(codes, scales, 3, "normal", 4)
    for (i, m), code in np.ndenumerate(codes):
        assert found[i, m] == levels_of(3, "normal")[code] * np.float32(
            scales[i, m // 4]
        )


def test_a_shorter_last_block_has_a_scale_of_its_own():
    rows = np.random.default_rng(0).normal(size=(5, 11)).astype(np.float32)
    codes, scales = round_to_levels(rows, 4, "uniform", 4)
    assert scales.shape == (5, 3)
    last, own = round_to_levels(rows[:, 8:], 4, "uniform", 3)
    assert_array_equal(codes[:, 8:], last)
    assert_array_equal(scales[:, 2:], own)


def test_a_block_wider_than_the_rows_is_the_whole_row():
    rows = np.random.default_rng(0).normal(size=(5, 11)).astype(np.float32)
    expected = rounded(rows, 4, "uniform", 11)
    assert_array_equal(rounded(rows, 4, "uniform", 128), expected)


@each_kind
def test_zeros_stay_zeros(bits, spacing):
    rows = np.zeros((2, 6), np.float32)
    rows[1, 4:] = 3
    found = rounded(rows, bits, spacing, 4)
    assert not found[0].any()
    assert not found[1, :4].any()


@each_kind
def test_small_numbers_are_not_lost_to_the_precision_of_scales(bits, spacing):
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    small = np.float32(1e-6)  # its scales are multiples of 6e-8
    at_one = squared_error(rows, bits, spacing, 8)
    assert squared_error(small * rows, bits, spacing, 8) / small**2 < 1.2 * at_one + 0.5


@each_kind
def test_nothing_is_worse_than_zeros(bits, spacing):
    for size in (1e-30, 1e-9, 1e-8, 1e-7):
        rows = size * np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
        error = rows - rounded(rows, bits, spacing, 8)
        assert np.linalg.norm(error) <= np.linalg.norm(rows)


@each_kind
def test_a_scale_is_the_best_of_many(bits, spacing):
    rng = np.random.default_rng(0)
    row = rng.normal(size=(1, 16)).astype(np.float32)
    weights = rng.uniform(size=(1, 16)).astype(np.float32)
    levels, errors = levels_of(bits, spacing), []
    (found,) = best_scales(row, bits, spacing, weights).astype(np.float32)
    for scale in (found, *np.linspace(-4, 4, 801)):
        near = levels[nearest_levels(row / (scale or 1), bits, spacing)] * scale
        errors.append(np.sum(weights * (row - near) ** 2))
    assert errors[0] < 2 * min(errors)


def test_an_outlier_is_kept_or_clipped_as_its_block_loses_least():
    rows = np.random.default_rng(0).normal(size=(1, 128)).astype(np.float32)
    rows[0, 5] = 1000
    found = rounded(rows, 4, "uniform", 128)
    assert found[0, 5] == pytest.approx(1000, rel=1e-3)
    # Other blocks don't suffer.
    assert squared_error(rows[:, 64:], 4, "uniform", 64) < 1
    light = np.ones((1, 128), np.float32)
    light[0, 5] = 0
    (scale,) = best_scales(rows, 4, "uniform", light)
    assert abs(scale) < 1000


def test_signed_scales_give_the_greatest_number_the_lowest_level():
    rows = np.array([[8, 1, -7, 3], [-8, 1, 7, 3]], np.float32)
    codes, scales = round_to_levels(rows, 4, "uniform", 4)
    assert scales.tolist() == [[-8], [8]]
    assert codes[:, 0].tolist() == [0, 0]
    assert_array_equal(from_levels(codes, scales, 4, "uniform", 4), rows)


@pytest.mark.parametrize("bits", range(1, 5))
def test_normal_levels_lose_less_of_normal_numbers(bits):
    rows = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    normal = squared_error(rows, bits, "normal", 64)
    assert normal < squared_error(rows, bits, "uniform", 64)
    assert squared_error(rows, bits, "normal", 16) < normal


@given(tables, kinds, st.integers(1, 7))
def test_no_number_is_further_off_than_half_a_gap_unless_clipped(rows, kind, size):
    codes, scales = round_to_levels(rows, *kind, size)
    levels, found = levels_of(*kind), from_levels(codes, scales, *kind, size)
    wide = np.repeat(scales, size, axis=1)[:, : rows.shape[1]].astype(np.float32)
    gap = np.max(np.diff(levels)) / 2 * np.abs(wide)
    clipped = (codes == 0) | (codes == len(levels) - 1)
    slack = 1e-6 * np.abs(rows) + 1e-12
    assert np.all((np.abs(rows - found) <= gap + slack) | clipped | (wide == 0))
    # No block is worse than zeros, and clipped numbers keep their sign.
    assert np.all(rows * found >= 0) or kind[0] == 1 or kind[1] == "normal"
    assert np.sum((rows - found) ** 2) <= np.sum(rows**2) * (1 + 1e-5)


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    kinds,
    st.integers(1, 7),
)
def test_scales_are_finite_whatever_the_numbers(rows, kind, size):
    codes, scales = round_to_levels(rows, *kind, size)
    assert np.all(np.isfinite(scales))
    assert np.all(codes < 2 ** kind[0])
    found = from_levels(codes, scales, *kind, size)
    assert np.all(np.isfinite(found))


@each_kind
def test_numbers_above_the_largest_scale_are_taken_for_that(bits, spacing):
    rows = np.array([[1e6, -3e38]], np.float32)
    found = rounded(rows, bits, spacing, 1)
    assert_allclose(found, [[LARGEST, -LARGEST]], rtol=0.25)


@pytest.mark.parametrize("width", [1, 2, 17])
def test_a_rotation_is_orthogonal_and_the_same_for_the_same_seed(width):
    turn = random_rotation(width, 3)
    assert turn.dtype == np.float32
    assert_allclose(turn @ turn.T, np.eye(width), atol=1e-6)
    random_rotation.cache_clear()
    assert_array_equal(random_rotation(width, 3), turn)
    if width > 1:
        assert not np.allclose(random_rotation(width, 4), turn)


def test_rotation_makes_numbers_about_normal():
    rows = np.zeros((200, 64), np.float32)
    rows[np.arange(200), np.arange(200) % 64] = 8
    turned = rows @ random_rotation(64, 0).T
    assert np.mean(turned**4) / np.mean(turned**2) ** 2 == pytest.approx(3, rel=0.2)
    assert squared_error(turned, 3, "normal", 64) < 0.1 * np.sum(rows**2)
