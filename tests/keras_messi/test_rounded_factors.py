"""Factors with coordinates in a few bits: layers, and how `compress` makes them."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_messi
from keras_messi import MessiConfig, RoundingConfig, compress
from keras_messi.layers import MessiRoundedDense, MessiRoundedEmbedding
from keras_messi.layers.numbers.levels import levels_of


@pytest.fixture(scope="module")
def model():
    """Words near three subspaces, and a Dense layer."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [rng.normal(size=(100, 4)) @ rng.normal(size=(4, 24)) for _ in range(3)]
    )
    inputs = keras.Input((5,), dtype="int32")
    words = keras.layers.Embedding(300, 24, name="words")
    x = keras.layers.Flatten()(words(inputs))
    model = keras.Model(inputs, keras.layers.Dense(30, name="head")(x))
    words.embeddings.assign(rows + 0.05 * rng.normal(size=rows.shape))
    return model


def compressed(model, bits, filters="words", **options):
    config = MessiConfig(
        rate=0.6, num_clusters=3, quantization=RoundingConfig(bits, **options)
    )
    return compress(model, config, filters)


@pytest.mark.parametrize("levels", ["normal", "uniform"])
def test_fewer_bits_lose_more_and_take_less(model, levels):
    errors, sizes = [], []
    for bits in (4, 3, 2):
        small, report = compressed(model, bits, levels=levels)
        (row,) = report.replaced
        assert isinstance(small.get_layer("words"), MessiRoundedEmbedding)
        errors.append(row.relative_error)
        sizes.append(row.bytes_after)
    assert errors == sorted(errors)
    assert sizes == sorted(sizes, reverse=True)
    assert errors[0] < 0.03


def test_the_file_computes_the_same_and_packs_to_the_bit(model, tmp_path):
    small, report = compressed(model, 3, "words|head")
    assert isinstance(small.get_layer("head"), MessiRoundedDense)
    keras_messi.save_model(small, tmp_path / "small.keras")
    again = keras_messi.load_model(tmp_path / "small.keras")
    ids = np.arange(20).reshape(4, 5)
    outputs = [ops.convert_to_numpy(x(ids)) for x in (again, small)]
    assert np.array_equal(*outputs)
    words = small.get_layer("words")
    sizes = zip(words.cluster_sizes, words.ranks, strict=True)
    codes = sum(-(-n * rank * 3 // 8) for n, rank in sizes)
    rest = 300 + 2 * 300 + sum(words.ranks) * (24 + 4)  # ids, scales, bases
    assert report.replaced[0].bytes_after == codes + rest


def test_a_layer_computes_what_its_codes_say():
    layer = MessiRoundedDense(6, num_clusters=2, rank=[3, 2], bits=2, use_bias=False)
    layer.build((None, 10))
    rng, store = np.random.default_rng(0), {}
    layer.save_own_variables(store)
    codes = [rng.integers(4, size=shape).astype("uint8") for shape in ((5, 3), (5, 2))]
    for table, own in zip(layer.coordinates, codes, strict=True):
        table.assign(own)
    layer.bases.assign(rng.integers(-127, 127, (5, 6)).astype("int8"))
    layer.basis_scales.assign(rng.normal(size=5))
    layer.row_scales.assign(rng.normal(size=10).astype("float16"))
    bases = ops.convert_to_numpy(layer.bases) / 128
    bases = bases * ops.convert_to_numpy(layer.basis_scales)[:, None]
    levels = levels_of(2, "normal")
    rows = np.concatenate([levels[codes[0]] @ bases[:3], levels[codes[1]] @ bases[3:]])
    rows = rows * ops.convert_to_numpy(layer.row_scales).astype("float32")[:, None]
    x = rng.normal(size=(7, 10)).astype("float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)), x @ rows, rtol=1e-4, atol=1e-4
    )
    assert not layer.trainable_weights


def test_bases_are_fitted_to_rounded_coordinates(model):
    # Of one bit, signs times a scale a row, the rest is made up for by the bases.
    table = ops.convert_to_numpy(model.get_layer("words").embeddings)
    small, _ = compressed(model, 1)
    words = small.get_layer("words")
    found = ops.convert_to_numpy(words.embeddings)
    error = np.sum((found - table) ** 2)
    for factor in (0.9, 1.1):
        assert np.sum((factor * found - table) ** 2) > error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 0}, "`bits` must be a positive integer"),
        ({"bits": 5}, "`bits` must not exceed 4 with levels='normal'"),
        ({"bits": 2, "levels": "lloyd"}, "`levels` must be one of"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MessiRoundedEmbedding(20, 8, 2, 3, **arguments)


def test_the_config_is_that_of_the_layer():
    layer = MessiRoundedEmbedding(20, 8, 2, rank=[3, 1], bits=3, name="words")
    again = MessiRoundedEmbedding.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.bits, again.levels, again.quantization) == (3, "normal", "int8")
