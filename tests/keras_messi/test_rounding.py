"""`compress` with a `RoundingConfig`."""

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

from keras_messi import CompressionReport, RoundingConfig, compress
from keras_messi.layers import RoundedDense, RoundedEmbedding
from keras_messi.layers.numbers.levels import (
    from_levels,
    random_rotation,
    round_to_levels,
)
from keras_messi.layers.sizes import stored_bytes
from keras_messi.methods.rounding import stored_size
from keras_messi.models.keras.surgery import find_layers
from keras_messi.report import SkipReason
from tests.keras_messi import models

CONFIGS = {
    "4 bits": RoundingConfig(),
    "2 bits": RoundingConfig(bits=2, block_size=8),
    "whole rows": RoundingConfig(bits=8, block_size=None),
    "rotated": RoundingConfig(bits=3, block_size=16, rotate=True, seed=1),
}


@pytest.fixture(scope="module")
def model():
    """Two inputs, a table, shared layers; kernels and biases that are not zero."""
    keras.utils.set_random_seed(0)
    model = models.siamese()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def data(model):
    """Token ids, of which some are never there."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 30, (200, 6)).astype("int32") for _ in model.inputs]


@pytest.fixture(scope="module", params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.fixture(scope="module")
def plain(model, config):
    return compress(model, config)


@pytest.fixture(scope="module")
def calibrated(model, config, data):
    return compress(model, config, calibration_data=data)


def layers_of(model):
    return {place.path: place.layer for place in find_layers(model)}


def matrix_of(layer):
    dense = isinstance(layer, keras.layers.Dense | RoundedDense)
    return ops.convert_to_numpy(layer.kernel if dense else layer.embeddings)


def test_the_report_says_what_is_in_the_layers(model, config, plain):
    small, report = plain
    new = layers_of(small)
    assert len(report.replaced) == 4
    assert not report.skipped
    for row in report.replaced:
        layer, is_dense = new[row.path], row.layer_type == "Dense"
        assert type(layer) is (RoundedDense if is_dense else RoundedEmbedding)
        bias = row.shape[1] if is_dense else 0
        width = row.shape[0] if is_dense else row.shape[1]
        size = stored_size(*row.shape, config, is_dense) + 4 * bias
        assert row.bytes_after == stored_bytes([layer]) == size
        centre = width if config.rotate else 0
        assert row.parameters_after == row.parameters_before + centre
        assert row.quantization == f"int{config.bits}"
        assert (row.num_clusters, row.ranks, row.num_codewords) == (0, [], 0)
        assert row.block_size == (layer.block_size or 0)
        old = matrix_of(layers_of(model)[row.path])
        error = np.sum((matrix_of(layer) - old) ** 2) / np.sum(old**2)
        assert row.relative_error == pytest.approx(error, rel=1e-3)
        assert row.output_error is None
    saved = sum(row.bytes_before - row.bytes_after for row in report.replaced)
    assert report.bytes_before - report.bytes_after == saved


def test_the_table_names_the_bits(config, plain, calibrated):
    _, report = plain
    lines = str(report).splitlines()
    rows = [line for line in lines if line.startswith(("encoder/", "shared", "head"))]
    assert len(rows) == 4
    assert all(f"-  whole, int{config.bits}  " in line for line in rows)
    for _, found in (plain, calibrated):
        assert CompressionReport.from_json(found.to_json()) == found


def test_matrices_are_rounded_to_the_nearest_levels(model, config, plain):
    small, report = plain
    for row in report.replaced:
        layer, old = layers_of(small)[row.path], layers_of(model)[row.path]
        table, found = matrix_of(old), matrix_of(layer)
        if row.layer_type == "Dense":
            table, found = table.T, found.T
        width = table.shape[1]
        turn = random_rotation(width, 1) if config.rotate else np.eye(width)
        centre = table.mean(axis=0) if config.rotate else 0
        form = config.bits, config.spacing, layer.block_size or width
        expected = from_levels(
            *round_to_levels((table - centre) @ turn.T, *form), *form
        )
        assert_allclose(found, expected @ turn + centre, atol=1e-5)


def test_biases_stay_without_calibration_data(model, plain):
    old, new = layers_of(model), layers_of(plain[0])
    for path in ("encoder/project", "shared", "head"):
        assert_array_equal(new[path].bias, old[path].bias)


def test_the_errors_are_small_and_no_larger_for_calibration(config, plain, calibrated):
    bound = {8: 1e-4, 4: 0.01, 3: 0.05, 2: 0.15}[config.bits]
    for one, other in zip(calibrated[1].replaced, plain[1].replaced, strict=True):
        assert other.relative_error < bound
        assert one.output_error <= one.plain_output_error


def test_the_report_says_what_was_learned(config, calibrated):
    for row in calibrated[1].replaced:
        learns = row.layer_type == "Dense" and not config.rotate
        found = {*row.adopted, *row.dropped}
        assert ("error feedback" in found) == learns
        assert ("bias correction" in found) == (row.layer_type == "Dense")
        if learns and row.path != "head":  # whose two units leave much to chance
            assert "error feedback" in row.adopted
            assert row.output_error < row.plain_output_error


def test_a_table_takes_nothing_from_calibration_data(plain, calibrated):
    one, other = (layers_of(small)["encoder/words"] for small, _ in (plain, calibrated))
    assert_array_equal(matrix_of(one), matrix_of(other))


def linear_model(inputs=30, units=8, use_bias=True):
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(units, use_bias=use_bias, name="one")
    return keras.Sequential([keras.Input((inputs,)), layer])


def inputs_with_a_mean(n=30, num_rows=300):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, 4)) @ rng.normal(size=(4, n))
    return (x + 0.3 * rng.normal(size=x.shape) + 3).astype("float32")


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_output_error_is_that_of_the_outputs(use_bias):
    model, x = linear_model(use_bias=use_bias), inputs_with_a_mean()
    config = RoundingConfig(3, block_size=16)
    small, report = compress(model, config, calibration_data=x)
    (row,) = report.replaced
    expected = ["error feedback"] + ["bias correction"] * use_bias
    assert row.adopted == expected
    y, z = (ops.convert_to_numpy(one(x)).astype(float) for one in (model, small))
    error = np.sum((y - z) ** 2) / np.sum((y - y.mean(axis=0)) ** 2)
    assert row.output_error == pytest.approx(error, rel=1e-3)
    assert row.output_error < 0.5 * row.plain_output_error
    if use_bias:
        assert_allclose(z.mean(axis=0), y.mean(axis=0), atol=1e-4)


def test_calibration_data_of_one_row_are_no_harm():
    model, x = linear_model(), inputs_with_a_mean()[:1]
    _, report = compress(model, RoundingConfig(3), calibration_data=x)
    (row,) = report.replaced
    _, without = compress(model, RoundingConfig(3))
    assert row.relative_error == pytest.approx(without.replaced[0].relative_error)


def test_more_bits_and_smaller_blocks_lose_less():
    model = linear_model(64, 16)
    errors = [
        compress(model, RoundingConfig(bits, size))[1].replaced[0].relative_error
        for bits, size in [(1, 32), (2, 32), (3, 32), (4, 32), (4, 8), (6, 32), (8, 32)]
    ]
    assert errors == sorted(errors, reverse=True)


def test_rotation_is_by_the_seed():
    model = linear_model()
    found = [
        compress(model, RoundingConfig(2, rotate=True, seed=seed))[0].layers[0]
        for seed in (0, 0, 1)
    ]
    assert [layer.rotation for layer in found] == [0, 0, 1]
    assert_array_equal(found[0].kernel, found[1].kernel)
    assert not np.array_equal(found[0].kernel, found[2].kernel)


def test_outliers_are_spread_by_rotation():
    model = linear_model(64, 16)
    kernel = ops.convert_to_numpy(model.layers[0].kernel).copy()
    kernel[np.arange(16), np.arange(16)] = 3
    model.layers[0].kernel.assign(kernel)
    errors = [
        np.sum((matrix_of(compress(model, config)[0].layers[0]) - kernel) ** 2)
        for config in (RoundingConfig(2, None), RoundingConfig(2, None, rotate=True))
    ]
    assert np.all(np.isfinite(errors))
    assert errors[1] < errors[0]


def test_what_takes_as_many_bytes_is_skipped():
    model = linear_model(1, 2)
    with pytest.raises(ValueError, match=f"{SkipReason.WOULD_GROW}.*it takes 10 of 8"):
        compress(model, RoundingConfig(8, block_size=1, rotate=True))


def test_numbers_above_float16_are_skipped_and_others_are_not():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(20, name="one"), keras.layers.Dense(20, name="two")]
    model = keras.Sequential([keras.Input((20,)), *layers])
    layers[0].kernel.assign(layers[0].kernel * 1e6)
    small, report = compress(model, RoundingConfig())
    assert [row.path for row in report.replaced] == ["two"]
    (skipped,) = report.skipped
    assert (skipped.path, skipped.reason) == ("one", SkipReason.TOO_LARGE)
    assert "scales are float16, up to 65,504" in skipped.detail
    outputs = small(np.ones((1, 20), "float32"))
    assert np.all(np.isfinite(keras.ops.convert_to_numpy(outputs)))


def test_what_is_rounded_is_not_rounded_again():
    small, _ = compress(linear_model(), RoundingConfig())
    with pytest.raises(ValueError, match=r"No layer can be compressed by Rounding"):
        compress(small, RoundingConfig(2))
