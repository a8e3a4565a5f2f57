"""Entropy coded integers: the coder, layers of them, and how `compress` makes them."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from keras import ops

import keras_messi
from keras_messi import EntropyCodingConfig, MessiConfig, RoundingConfig, compress
from keras_messi.layers import (
    EntropyCodedDense,
    EntropyCodedEmbedding,
    MessiEntropyCodedDense,
    MessiEntropyCodedEmbedding,
)
from keras_messi.layers.numbers.entropy import coded_bits, decode, encode
from keras_messi.layers.storage.few_bits.entropy_coded import exponents_of, scales_from
from keras_messi.methods import entropy_coding
from keras_messi.methods.steps import exponents_for, step_for, to_integers
from keras_messi.report import SkipReason

from .factored import fill_integers

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=12)


@given(arrays(np.int8, SHAPES), st.booleans())
def test_what_was_coded_comes_back(integers, small):
    integers = integers // 40 if small else integers
    found = decode(encode(integers), integers.shape, "int8")
    assert found.dtype == np.int8
    assert np.array_equal(found, integers)


def test_few_integers_may_be_large():
    integers = np.random.default_rng(0).integers(-5, 6, (40, 30)).astype(np.int16)
    length = len(encode(integers))
    integers[[3, 17], [29, 0]] = 32_767, -20_000
    assert np.array_equal(decode(encode(integers), (40, 30), "int16"), integers)
    assert len(encode(integers)) < length + 40


@pytest.mark.parametrize("bits", [0.2, 1.0, 2.5, 5.0])
def test_codes_are_about_as_long_as_the_entropy(bits):
    rng = np.random.default_rng(0)
    spreads = np.exp(rng.normal(size=100))  # columns of different spread
    step = 4.13 * 2.0**-bits
    numbers = rng.normal(size=(3000, 100)) * spreads
    integers = np.round(numbers / step).clip(-127, 127).astype(np.int8)
    found = 8 * len(encode(integers)) / integers.size
    given_columns = np.mean([entropy(column) for column in integers.T])
    assert found < 1.03 * given_columns + 0.05
    assert found < entropy(integers)
    assert coded_bits(integers) / integers.size == pytest.approx(found, abs=0.1)


def entropy(values):
    _, counts = np.unique(values, return_counts=True)
    shares = counts / counts.sum()
    return -np.sum(shares * np.log2(shares))


def test_equal_integers_take_next_to_nothing():
    assert len(encode(np.full((1000, 50), -7, np.int8))) < 600


@pytest.mark.parametrize(
    "coded", [np.zeros(7, np.uint8), np.zeros((4, 1), np.uint8), np.zeros(4, np.int8)]
)
def test_bytes_that_are_no_words_are_refused(coded):
    with pytest.raises(ValueError, match="`coded` must be bytes of whole 32-bit words"):
        decode(coded, (2, 2), "int8")


def test_bytes_of_more_integers_are_refused():
    coded = encode(np.random.default_rng(0).integers(-9, 9, (50, 20)).astype("int8"))
    with pytest.raises(ValueError, match=r"`coded` must hold integers of shape"):
        decode(coded, (40, 20), "int8")


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=9), st.floats(1e-3, 9))
def test_scales_that_were_stored_come_back(steps, largest):
    exponents = exponents_for(np.array(steps))
    scales = scales_from(np.float32([largest]), exponents)
    step, found = exponents_of(scales)
    assert np.array_equal(scales_from(step, found), scales)


@given(st.floats(0.1, 5.0))
def test_the_step_is_that_of_the_bits(bits):
    numbers = np.random.default_rng(0).normal(size=(40, 50))

    def bits_at(step):
        return coded_bits(to_integers(numbers / step)) / numbers.size

    largest = np.abs(numbers).max()
    assert bits_at(step_for(bits, bits_at, largest)) == pytest.approx(bits, abs=0.05)
    assert step_for(bits, lambda _: 0.0, largest) == pytest.approx(largest / 32_767)


def test_integers_are_the_nearest_or_smaller():
    found = to_integers(np.array([0.0, 0.55, 0.65, -1.65, 300.0, -4e4]))
    assert found.tolist() == [0, 0, 1, -2, 300, -32_767]


@pytest.fixture(scope="module")
def model():
    """Words near three subspaces, and Dense layers."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [rng.normal(size=(200, 4)) @ rng.normal(size=(4, 24)) for _ in range(3)]
    )
    inputs = keras.Input((5,), dtype="int32")
    words = keras.layers.Embedding(600, 24, name="words")
    x = keras.layers.Flatten()(words(inputs))
    normal = {"kernel_initializer": "he_normal"}
    x = keras.layers.Dense(80, "relu", name="hidden", **normal)(x)
    outputs = keras.layers.Dense(60, name="head", **normal)(x)
    model = keras.Model(inputs, outputs)
    words.embeddings.assign(rows + 0.05 * rng.normal(size=rows.shape))
    return model


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(1).integers(0, 600, (300, 5))


CONFIGS = {
    "whole": EntropyCodingConfig(2.5),
    "factors": MessiConfig(
        rate=0.4,
        num_clusters=3,
        scope="layer",
        quantization=EntropyCodingConfig(2.5),
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_file_computes_the_same(model, ids, config, tmp_path):
    small, report = compress(model, config, calibration_data=ids)
    keras_messi.save_model(small, tmp_path / "small.keras")
    again = keras_messi.load_model(tmp_path / "small.keras")
    outputs = [ops.convert_to_numpy(x(ids)) for x in (again, small)]
    assert np.array_equal(*outputs)
    kinds = {type(layer) for layer in again.layers}
    dense, table = (
        (EntropyCodedDense, EntropyCodedEmbedding)
        if isinstance(config, EntropyCodingConfig)
        else (MessiEntropyCodedDense, MessiEntropyCodedEmbedding)
    )
    assert {dense, table} <= kinds
    assert report.output_change < 0.7


def test_bits_are_those_asked_for_and_fewer_lose_more(model, ids):
    errors = []
    for bits in (1.0, 2.0, 4.0):
        _, report = compress(model, EntropyCodingConfig(bits), calibration_data=ids)
        words, hidden, _ = report.replaced
        assert 8 * words.bytes_after / (600 * 24) == pytest.approx(bits, abs=0.4)
        kernel = 8 * (hidden.bytes_after - 4 * 80) / (120 * 80)
        assert kernel == pytest.approx(bits, abs=0.35)
        errors.append(report.output_change)
    assert errors == sorted(errors, reverse=True)


def test_less_is_lost_than_with_a_fixed_number_of_bits(model, ids):
    coded = EntropyCodingConfig(3.0)
    fixed = RoundingConfig(3, block_size=None)
    (found, expected) = (
        compress(model, config, calibration_data=ids)[1].replaced
        for config in (coded, fixed)
    )
    for one, other in list(zip(found, expected, strict=True))[:2]:
        assert one.output_error < 0.8 * other.output_error
    factors = CONFIGS["factors"]
    rounded = MessiConfig(
        rate=0.4, num_clusters=3, scope="layer", quantization=RoundingConfig(3)
    )
    (one,) = compress(model, factors, "words", calibration_data=ids)[1].replaced
    (other,) = compress(model, rounded, "words", calibration_data=ids)[1].replaced
    assert one.bytes_after < other.bytes_after
    assert one.output_error < other.output_error


def test_rows_that_count_more_are_rounded_less(model):
    used = np.arange(60).repeat(5).reshape(60, 5)
    small, _ = compress(model, EntropyCodingConfig(2.0), "words", calibration_data=used)
    scales = ops.convert_to_numpy(small.get_layer("words").row_scales)
    assert scales[:60].max() < scales[60:].min()


def test_every_row_is_near_its_subspace_however_much_it_counts(model):
    used = np.arange(0, 600, 7).repeat(30).reshape(-1, 5)
    small, report = compress(model, CONFIGS["factors"], "words", calibration_data=used)
    before, after = (
        ops.convert_to_numpy(x.get_layer("words").embeddings) for x in (model, small)
    )
    errors = np.sum((before - after) ** 2, axis=1) / np.sum(before**2, axis=1)
    assert np.quantile(errors, 0.95) < 0.2


def test_feedback_lowers_the_error_of_outputs(model, ids):
    (row,) = compress(model, EntropyCodingConfig(2.0), "hidden", calibration_data=ids)[
        1
    ].replaced
    plain = compress(model, EntropyCodingConfig(2.0), "hidden")[0]
    assert "error feedback" in row.adopted
    assert row.output_error < row.plain_output_error
    assert plain.get_layer("hidden").row_scales.shape == (120,)


def test_the_step_is_that_of_the_integers_even_if_the_entropy_is_missed(monkeypatch):
    monkeypatch.setattr(entropy_coding, "_TOLERANCE", -1)
    monkeypatch.setattr(entropy_coding, "_CORRECTIONS", 1)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 40)) @ rng.normal(size=(40, 40))
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(90)])
    model.layers[0].kernel.assign(rng.normal(size=(40, 90)))
    small, _ = compress(model, EntropyCodingConfig(2.0), calibration_data=inputs)
    found, wanted = (
        inputs @ ops.convert_to_numpy(x.layers[0].kernel) for x in (small, model)
    )
    assert np.sum(found * wanted) / np.sum(found**2) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("bits", [0, -1.0, 7, "3", None])
def test_bad_bits_are_refused(bits):
    with pytest.raises(ValueError, match=r"`bits` must be a number above 0, up to 6"):
        EntropyCodingConfig(bits)


def test_too_many_clusters_are_refused():
    with pytest.raises(ValueError, match="`num_clusters` must not exceed 256"):
        MessiEntropyCodedEmbedding(600, 24, num_clusters=300, rank=2)


def test_what_would_grow_is_left_alone(model):
    _, report = compress(model, EntropyCodingConfig(2.0), "words|head")
    assert not [x for x in report.skipped if x.reason == SkipReason.WOULD_GROW]
    tiny = keras.Sequential([keras.Input((30,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=SkipReason.WOULD_GROW):
        compress(tiny, EntropyCodingConfig(6.0))


def test_zeros_stay_zeros(tmp_path):
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(20)])
    model.layers[0].kernel.assign(np.zeros((30, 20)))
    small, _ = compress(model, EntropyCodingConfig(2.0))
    assert not ops.convert_to_numpy(small.layers[0].kernel).any()


@pytest.mark.parametrize(
    "layer",
    [
        EntropyCodedDense(20, use_bias=False),
        MessiEntropyCodedDense(20, 3, rank=2, use_bias=False),
    ],
    ids=["whole", "factors"],
)
def test_what_is_stored_is_the_layer(layer):
    layer.build((None, 30))
    fill_integers(layer.storage)
    store = {}
    layer.save_own_variables(store)
    twin = type(layer).from_config(layer.get_config())
    twin.build((None, 30))
    twin.load_own_variables(store)
    assert np.array_equal(*map(ops.convert_to_numpy, (twin.kernel, layer.kernel)))
    assert not layer.trainable_weights
