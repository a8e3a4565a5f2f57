"""`compress` with a `PQConfig`, on models with what real models have."""

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

from keras_messi import CompressionReport, MessiConfig, PQConfig, compress, search
from keras_messi.layers import PQDense, PQEmbedding
from keras_messi.methods.subspaces.clustering import code
from keras_messi.models.keras.saving import load_model, save_model
from keras_messi.models.keras.surgery import find_layers
from keras_messi.report import SkipReason
from tests import reference
from tests.keras_messi import models

SMALL = PQConfig(block_size=4, num_codewords=16)


@pytest.fixture(params=models.ALL)
def model(request):
    keras.utils.set_random_seed(0)
    return request.param()


def layers_of(model):
    return {place.path: place.layer for place in find_layers(model)}


def dense_model(inputs=40, units=60, **arguments):
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(units, name="one", **arguments)
    return keras.Sequential([keras.Input((inputs,)), layer])


def word_model(rows=200, width=16):
    keras.utils.set_random_seed(0)
    layer = keras.layers.Embedding(rows, width, name="words")
    return keras.Sequential([keras.Input((5,), dtype="int32"), layer])


def test_models_of_all_kinds_are_left_as_they_are(model):
    models.outputs_of(model)
    before = models.snapshot(model)
    _, report = compress(model, SMALL)
    models.assert_unchanged(model, before)
    assert report.bytes_after < report.bytes_before


def test_models_of_all_kinds_can_be_saved(model, tmp_path):
    if "double" in layers_of(model):
        pytest.skip("Keras does not load Python lambdas in safe mode")
    small, _ = compress(model, SMALL)
    save_model(small, tmp_path / "small.keras")
    loaded = load_model(tmp_path / "small.keras")
    assert np.array_equal(models.outputs_of(loaded), models.outputs_of(small))


def test_the_report_says_what_is_in_the_layers(model):
    small, report = compress(model, SMALL)
    old, new = layers_of(model), layers_of(small)
    for row in report.replaced:
        layer, (n, d) = new[row.path], row.shape
        assert isinstance(layer, PQDense | PQEmbedding)
        name = "kernel" if isinstance(layer, PQDense) else "embeddings"
        before, after = (
            ops.convert_to_numpy(getattr(x[row.path], name)) for x in (old, new)
        )
        error = np.sum((after - before) ** 2) / np.sum(before**2)
        assert row.relative_error == pytest.approx(error, rel=1e-3)
        bias = d if name == "kernel" else 0
        assert (row.num_clusters, row.ranks, row.block_size) == (0, [], 4)
        assert row.parameters_after == row.num_codewords * 4 + bias
        assert row.bytes_after == 4 * row.parameters_after + n * d // 4 // 2
    assert f"{SMALL.num_codewords}  blocks of 4" in str(report)
    assert CompressionReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("num_codebooks", [1, 2, "all"])
def test_codes_are_of_the_nearest_codewords_and_codewords_means(num_codebooks):
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((90, 12)).astype("float32")
    weights = rng.uniform(1, 2, (90, 4))
    config = PQConfig(3, 5, num_codebooks)
    codebooks, codes = code(matrix, config, weights)
    assert codebooks.shape == ({"all": 4}.get(num_codebooks, num_codebooks), 5, 3)
    decoded = reference.decoded(codebooks, codes)
    error = np.sum((matrix - decoded) ** 2)
    books = np.repeat(codebooks, 4 // len(codebooks), axis=0)
    blocks = matrix.reshape(90, 4, 1, 3)
    assert error <= 1.02 * np.sum(np.min(np.sum((blocks - books) ** 2, -1), -1)) + 1e-6
    pull = (matrix - decoded) * np.repeat(weights, 3, axis=1)
    gradient = reference.codebooks_gradient(pull, codes, codebooks)
    assert_allclose(gradient, 0, atol=0.05)


@pytest.mark.parametrize("make", [dense_model, word_model])
@pytest.mark.parametrize("num_codebooks", [1, 2, "all"])
def test_matrices_of_few_distinct_blocks_are_kept_exactly(make, num_codebooks):
    model = make()
    weight = model.layers[-1].weights[0]
    signs = np.random.default_rng(0).integers(2, size=tuple(weight.shape))
    weight.assign(2.0 * signs - 1)
    config = PQConfig(2, 8, num_codebooks)
    small, report = compress(model, config)
    assert report.replaced[0].num_codewords == 4
    assert report.replaced[0].relative_error < 1e-10
    x = models.inputs_of(model)
    assert_allclose(small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-4)


def test_calibration_data_lower_the_error_of_the_outputs():
    model, rng = dense_model(bias_initializer="ones"), np.random.default_rng(0)
    scales = np.repeat([3, 1, 0.3, 0.1, 0.01], 8)
    x = ((rng.standard_normal((300, 40)) + 0.5) * scales).astype("float32")
    _, report = compress(model, SMALL, calibration_data=x)
    (row,) = report.replaced
    assert row.adopted == ["row weights", "bias correction"]
    assert row.output_error < row.plain_output_error


def test_calibration_data_favour_the_words_that_are_used():
    model = word_model()
    tokens = np.random.default_rng(0).integers(20, size=(400, 5))
    small, report = compress(model, SMALL, calibration_data=tokens)
    (row,) = report.replaced
    assert row.adopted == ["row weights"]
    assert row.output_error < row.relative_error


SKIPPED = [
    (PQConfig(7, 16), SkipReason.UNEVEN_BLOCKS, r"block_size=7 must divide 40: one of"),
    (PQConfig(4, 4, 3), SkipReason.UNEVEN_BLOCKS, "num_codebooks=3 must divide 10 blo"),
    (PQConfig(4, 600), SkipReason.WOULD_GROW, "600 codewords of 4 numbers and the cod"),
]


@pytest.mark.parametrize(("config", "reason", "detail"), SKIPPED, ids=str)
def test_a_layer_that_takes_no_codes_is_skipped_with_a_reason(config, reason, detail):
    with pytest.raises(ValueError, match=f"{reason}.*{detail}"):
        compress(dense_model(), config)


def test_what_is_not_finite_is_refused():
    model = dense_model()
    model.layers[-1].kernel.assign(np.full((40, 60), np.nan))
    with pytest.raises(ValueError, match="`kernel` of layer 'one' must be finite"):
        compress(model, SMALL)


def test_a_search_takes_no_codes():
    with pytest.raises(ValueError, match="`config` must be a MessiConfig"):
        search(dense_model(), SMALL)


def test_what_became_codes_is_not_compressed_again():
    small, _ = compress(dense_model(), SMALL)
    with pytest.raises(ValueError, match=SkipReason.NOT_SUPPORTED):
        compress(small, MessiConfig(rate=0.5, num_clusters=1, scope="layer"))


BAD_CONFIGS = [
    ({"block_size": 0}, "`block_size` must be an integer of at least 1"),
    ({"num_codewords": 65_537}, "`num_codewords` must not exceed 65,536"),
    ({"num_codewords": 2.0}, "`num_codewords` must be an integer"),
    ({"num_codebooks": "some"}, '`num_codebooks` must be an integer .* or "all"'),
    ({"seed": -1}, "`seed` must be an integer of at least 0"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_CONFIGS)
def test_bad_configs_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PQConfig(**arguments)
