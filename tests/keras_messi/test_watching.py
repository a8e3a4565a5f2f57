"""What layers receive from calibration data, and data that tell nothing."""

from collections import Counter
from unittest import mock

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from keras_messi.calibration import observers
from keras_messi.calibration.observers import collect_statistics
from keras_messi.calibration.statistics import input_spread, output_error
from keras_messi.models.adapter import family_of
from tests.keras_messi import models


def calibrated(model, data):
    family = family_of(model)
    places = family.find_layers(model)
    return collect_statistics(
        model, family.observe, {x.path: x.layer for x in places}, data
    ).by_path


def embedding_model(mask_zero=False, dtype="int32"):
    """Words, their average, and a layer on each."""
    tokens = keras.Input((None,), dtype=dtype)
    x = keras.layers.Embedding(50, 8, mask_zero=mask_zero, name="words")(tokens)
    x = keras.layers.Dense(6, name="each")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, keras.layers.Dense(2, name="head")(x))


TOKENS = np.random.default_rng(0).integers(0, 50, (150, 6)).astype("int32")


def test_tokens_are_counted_one_by_one():
    found = calibrated(embedding_model(), TOKENS)["words"]
    expected = Counter(int(token) for row in TOKENS for token in row)
    assert found.counts.dtype == np.int64
    assert dict(enumerate(found.counts)) == {i: expected[i] for i in range(50)}


def assert_moments_are(found, rows):
    """Those of an array, computed at once."""
    assert found.count == len(rows)
    assert_allclose(found.mean, rows.mean(axis=0), atol=1e-5)
    expected = np.cov(rows, rowvar=False, bias=True).reshape(2 * rows.shape[1:])
    assert_allclose(found.covariance, expected, rtol=1e-4, atol=1e-4)


def test_moments_of_a_dense_layer_are_those_of_its_inputs():
    x = 5 + np.random.default_rng(0).standard_normal((300, 40)).astype("float32")
    found = calibrated(models.sequential(), x)["first"]
    assert found.covariance.dtype == np.float32
    assert_moments_are(found, x)


def test_moments_are_over_all_positions():
    model = embedding_model()
    table = keras.ops.convert_to_numpy(model.get_layer("words").embeddings)
    assert_moments_are(calibrated(model, TOKENS)["each"], table[TOKENS.ravel()])


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.floats(-1000, 1000),
    st.booleans(),
)
def test_moments_do_not_depend_on_the_batches(sizes, shift, is_wide):
    rng = np.random.default_rng(0)
    batches = [rng.normal(shift, 1, (n, 3)).astype("float32") for n in sizes]
    moments = observers._Moments()
    with mock.patch.object(observers, "MOST_INPUTS", 2 if is_wide else 3):
        for batch in batches:
            moments.add(batch)
    found, rows = moments.result(), np.concatenate(batches).astype(float)
    assert found.count == len(rows)
    assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-5, atol=1e-4)
    expected = np.cov(rows, rowvar=False, bias=True)
    if is_wide:
        expected = np.diag(expected)
    assert found.is_joint != is_wide
    assert_allclose(found.covariance, expected, atol=2e-3)


class Part(models.Tied):
    """A model with a layer that it does not call."""

    def __init__(self):
        super().__init__()
        self.unused = keras.layers.Dense(3)
        self.unused.build((None, 4))


def test_what_no_batch_reaches_is_missing():
    model = Part()
    model(TOKENS)
    assert set(calibrated(model, TOKENS)) == {"words", "dense"}


def test_only_places_that_are_given_are_watched():
    model = models.siamese()
    family = family_of(model)
    places = [x for x in family.find_layers(model) if x.path == "shared"]
    found = collect_statistics(
        model,
        family.observe,
        {x.path: x.layer for x in places},
        models.inputs_of(model, 70),
    ).by_path
    assert {path: (x.count, x.size) for path, x in found.items()} == {
        "shared": (140, 20)
    }


@pytest.mark.parametrize("kind", [list, dict, "loader", "dataset"])
def test_data_of_any_kind_says_the_same(kind):
    model = models.siamese()
    left, right = models.inputs_of(model, 100)
    expected = calibrated(model, [left, right])["encoder/words"].counts
    assert expected.sum() == left.size + right.size
    if kind is list:
        data = [((left[:30], right[:30]), 0), ([left[30:], right[30:]], 1)]
    elif kind is dict:
        data = {"left": left, "right": right}
    elif kind == "loader":
        loading = pytest.importorskip("torch.utils.data")
        pairs = [({"left": a, "right": b}, 0) for a, b in zip(left, right, strict=True)]
        data = loading.DataLoader(pairs, batch_size=30)
    else:
        tf = pytest.importorskip("tensorflow")
        data = tf.data.Dataset.from_tensor_slices(((left, right), left)).batch(30)
    assert np.array_equal(calibrated(model, data)["encoder/words"].counts, expected)


def test_masks_of_keras_leave_padding_out():
    tokens = TOKENS.copy()
    tokens[::2, 4:] = 0
    model = embedding_model(mask_zero=True)
    found = calibrated(model, tokens)
    real = tokens != 0
    assert found["words"].counts[0] == 0
    assert found["words"].counts.sum() == found["each"].count == real.sum()
    assert found["head"].count == len(tokens)


class Masked(keras.Model):
    """A model that is told what is padding."""

    def __init__(self):
        super().__init__()
        self.words = keras.layers.Embedding(50, 8)
        self.positions = keras.layers.Embedding(9, 8)
        self.dense = keras.layers.Dense(4)

    def call(self, inputs):
        positions = keras.ops.arange(inputs["token_ids"].shape[1])[None]
        return self.dense(self.words(inputs["token_ids"]) + self.positions(positions))


@pytest.mark.parametrize("name", ["attention_mask", "padding_mask"])
def test_masks_in_a_batch_leave_padding_out(name):
    mask = (np.arange(6) < np.random.default_rng(0).integers(1, 7, (150, 1))).astype(
        int
    )
    data, model = {"token_ids": TOKENS, name: mask}, Masked()
    model({key: value[:2] for key, value in data.items()})
    found = calibrated(model, data)
    expected = Counter(TOKENS[mask == 1].tolist())
    assert dict(enumerate(found["words"].counts)) == {i: expected[i] for i in range(50)}
    assert found["positions"].counts.tolist() == [*mask.sum(axis=0), 0, 0, 0]
    assert (found["dense"].count, found["dense"].size) == (mask.sum(), 8)


def nan_inside():
    """A graph that takes the logarithm of its inputs."""
    inputs = keras.Input((4,))
    logs = keras.ops.log(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(logs))


X = np.ones((70, 4), "float32")


@pytest.mark.parametrize(
    ("make", "data", "message"),
    [
        (embedding_model, TOKENS + 1, "vocabulary, from 0 to 49. .* 50. At .*'words'"),
        (embedding_model, TOKENS - 1, "vocabulary, from 0 to 49. .* -1. At .*'words'"),
        (embedding_model, TOKENS + 0.5, "what the model takes. .* takes integers"),
        (models.tied, TOKENS + 0.5, "must give token ids. .* float32 .*'words'"),
        (embedding_model, TOKENS[:0], "must hold rows"),
        (embedding_model, iter([]), "at least one batch"),
        (nan_inside, np.where(X > 0, np.nan, X), "must be finite"),
        (nan_inside, -X, "must give finite numbers. .* 256 NaN .*'head'"),
        (nan_inside, X[:, :3], r"must be what the model takes. .*\(64, 3\)"),
        (nan_inside, X[:, None], r"must be what the model takes. .*\(64, 1, 4\)"),
        (nan_inside, [X, X], "must be what the model takes"),
        (nan_inside, np.full((3, 4), "word"), "must be what the model takes"),
        (nan_inside, "data.csv", "must be an array"),
    ],
)
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")
def test_data_that_does_not_fit_is_named_and_the_model_unchanged(make, data, message):
    model = make()
    before = models.snapshot(model)
    with pytest.raises(ValueError, match="(?s)^`calibration_data` .*" + message):
        calibrated(model, data)
    models.assert_unchanged(model, before)
    for place in family_of(model).find_layers(model):
        assert "call" not in vars(place.layer)


def test_lenet_on_mnist(trained_lenet, mnist):
    images = mnist.x_train[:3000]
    before = models.snapshot(trained_lenet)
    found = calibrated(trained_lenet, images)
    models.assert_unchanged(trained_lenet, before)
    assert {path: (x.count, x.size) for path, x in found.items()} == {
        "fc1": (3000, 784),
        "fc2": (3000, 300),
        "fc3": (3000, 100),
    }
    hidden = keras.Model(
        trained_lenet.inputs[0], trained_lenet.get_layer("fc1").output
    ).predict(images, verbose=0)
    np.testing.assert_allclose(found["fc2"].mean, hidden.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(
        input_spread(found["fc2"]), hidden.std(axis=0), atol=1e-4
    )


def test_correcting_the_bias_of_lenet_lowers_the_error_of_its_outputs(
    trained_lenet, mnist
):
    sample = calibrated(trained_lenet, mnist.x_train[:3000])["fc2"]
    kernel = keras.ops.convert_to_numpy(trained_lenet.get_layer("fc2").kernel)
    u, s, vt = np.linalg.svd(kernel, full_matrices=False)
    cut = (u[:, :10] * s[:10]) @ vt[:10]
    plain = output_error(sample, kernel, cut)
    assert output_error(sample, kernel, cut, corrected=True) < 0.9 * plain
