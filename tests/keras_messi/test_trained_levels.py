"""Levels of rounded layers that are trained, on whichever backend Keras runs."""

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

import keras_messi
from keras_messi.layers import (
    MessiDense,
    MessiRoundedDense,
    MessiRoundedEmbedding,
    RoundedDense,
    RoundedEmbedding,
)
from keras_messi.layers.dense import StoredDense
from keras_messi.layers.numbers.levels import levels_of, straight_through
from keras_messi.layers.sizes import stored_bytes

from .factored import drawn, fixture_of, stored

N, D = 12, 8
TOKENS = np.array([[0, 3, 11, 4], [7, 7, 5, 9]], dtype="int32")
FACTORS = {"num_clusters": 2, "rank": [2, 4]}
CASES = {
    "kernel": (RoundedDense, {"bits": 3, "block_size": 5}),
    "turned kernel": (RoundedDense, {"bits": 2, "levels": "normal", "rotation": 1}),
    "table": (RoundedEmbedding, {"bits": 4, "rotation": 1}),
    "factors": (MessiRoundedDense, {**FACTORS, "bits": 2, "quantization": "int4"}),
    "outputs": (MessiRoundedDense, {**FACTORS, "bits": 4, "side": "outputs"}),
    "float bases": (MessiRoundedDense, {**FACTORS, "bits": 3, "quantization": None}),
    "factored table": (MessiRoundedEmbedding, {**FACTORS, "bits": 3}),
    "wide look-up": (MessiRoundedEmbedding, {**FACTORS, "bits": 1, "lookup": "wide"}),
}
case = fixture_of(*CASES)


def built(case):
    """A layer with random codes, and inputs."""
    kind, arguments = CASES[case]
    dense = issubclass(kind, StoredDense)
    layer = kind(*((D,) if dense else (N, D)), **arguments, name="first")
    layer.build((None, N) if dense else (None, None))
    rng, store = np.random.default_rng(1), drawn(stored(layer))
    for name, value in store.items():
        if "codes" in name:
            store[name] = rng.integers(256, size=value.shape, dtype=np.uint8)
    layer.load_own_variables(store)
    x = rng.standard_normal((5, N)).astype("float32") if dense else TOKENS
    return layer, x


def array(tensor):
    return ops.convert_to_numpy(tensor)


def model_of(layer, x):
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    return keras.Model(inputs, layer(inputs))


def assert_stored_alike(layer, store):
    found = stored(layer)
    assert list(found) == list(store)
    for name, value in found.items():
        assert_array_equal(array(value), array(store[name]), err_msg=name)


def test_the_layer_computes_and_stores_the_same(case):
    layer, x = built(case)
    before, store = array(layer(x)), stored(layer)
    frozen = {weight.name for weight in layer.trainable_weights}
    layer.train_levels()
    assert layer.levels_trained
    assert_array_equal(array(layer(x)), before)
    assert_stored_alike(layer, store)
    trained = {weight.name for weight in layer.trainable_weights}
    moving = {name for name in store if name.startswith(("codes", "bases"))}
    assert trained - {"bias"} == moving
    layer.fix_levels()
    assert not layer.levels_trained
    assert_array_equal(array(layer(x)), before)
    assert_stored_alike(layer, store)
    assert {weight.name for weight in layer.trainable_weights} == frozen


def test_what_was_trained_is_what_the_file_holds(case, tmp_path):
    layer, x = built(case)
    model, size = model_of(layer, x), stored_bytes([layer])
    before = stored(layer)
    layer.train_levels()
    model.compile(keras.optimizers.Adam(3.0), "mse", run_eagerly=True)
    target = np.zeros(array(model(x)).shape, "float32")
    model.train_on_batch(x, target)
    moved = [k for k, v in stored(layer).items() if not np.array_equal(v, before[k])]
    assert any("codes" in name for name in moved)
    assert not any("scales" in name for name in moved)
    outputs = array(model(x))
    keras_messi.save_model(model, tmp_path / "model.keras")
    loaded = keras_messi.load_model(tmp_path / "model.keras")
    assert not loaded.get_layer("first").levels_trained
    assert_allclose(array(loaded(x)), outputs, atol=1e-5)
    layer.fix_levels()
    assert_allclose(array(model(x)), outputs, atol=1e-5)
    assert stored_bytes([layer]) == size


@pytest.mark.parametrize("spacing", ["uniform", "normal"])
def test_numbers_are_read_as_the_nearest_levels(spacing):
    levels = levels_of(3, spacing)
    numbers = np.random.default_rng(0).normal(size=(6, 7)).astype("float32")
    nearest = levels[np.abs(numbers[..., None] - levels).argmin(axis=-1)]
    found = straight_through(ops.convert_to_tensor(numbers), 3, spacing)
    assert_array_equal(array(found), nearest)


def test_gradients_go_straight_through():
    layer, x = built("kernel")
    model = model_of(layer, x)
    layer.train_levels()
    rate, target = 1e-3, np.ones((5, D), "float32")
    before, errors = array(layer.codes), array(model(x)) - target
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.train_on_batch(x, target)
    scales = np.repeat(array(layer.scales).astype("float32"), 5, axis=1)[:, :N]
    unit = np.sqrt(np.mean(array(layer.scales).astype("float32") ** 2))
    gradient = 2 * errors.T @ x / errors.size * scales / unit
    assert_allclose(array(layer.codes), before - rate * gradient, atol=1e-6)


def test_training_lowers_what_rounding_lost():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10)])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 5)) @ rng.normal(size=(5, 20))
    target = array(model(x))
    small, _ = keras_messi.compress(model, keras_messi.RoundingConfig(bits=2))
    small.layers[0].train_levels()
    falling = keras.optimizers.schedules.CosineDecay(1e-2, 60)
    small.compile(keras.optimizers.Adam(falling), "mse")
    losses = [small.train_on_batch(x, target) for _ in range(61)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_frozen_layer_stays_frozen():
    layer, _ = built("factors")
    layer.trainable = False
    layer.train_levels()
    assert not layer.trainable_weights


def test_what_has_no_codes_is_refused():
    factored = MessiDense(D, num_clusters=2, rank=3)
    factored.build((None, N))
    adapted, trained = built("kernel")[0], built("factors")[0]
    adapted.enable_lora(2)
    trained.train_levels()
    unbuilt = RoundedDense(D, bits=2)
    for layer, why in [
        (factored, "class MessiDense"),
        (adapted, "lora_enabled=True"),
        (trained, "levels_trained=True"),
        (unbuilt, "built=False"),
    ]:
        with pytest.raises(ValueError, match=f"`train_levels` needs .*{why}"):
            layer.train_levels()
    with pytest.raises(ValueError, match=r"`fix_levels` needs .*class MessiDense"):
        factored.fix_levels()
