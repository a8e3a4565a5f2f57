"""Layers fitted one after another, each on what it gets from those before it."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_messi import MessiConfig, calibrate, compress
from keras_messi.methods.target import target_for
from tests.keras_messi import models

CONFIG = MessiConfig(rate=0.5, num_clusters=1, scope="layer", sequential=True)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y


@pytest.fixture(scope="module")
def trained(digits):
    """A network that tells digits."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, "relu", name=f"hidden{i}") for i in range(3)]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, run_eagerly=False)
    model.fit(*digits, epochs=8, verbose=0)
    return model


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_target_is_the_regression_of_what_the_layer_gave(use_bias):
    rng = np.random.default_rng(0)
    layer = keras.layers.Dense(7, use_bias=use_bias)
    layer.build((None, 5))
    before = rng.standard_normal((4000, 5)).astype("float32") + 1
    after = before + 0.5 * rng.standard_normal(before.shape).astype("float32") - 0.5
    outputs = keras.ops.convert_to_numpy(layer(before))
    columns = np.hstack([after, np.ones((len(after), 1))]) if use_bias else after
    expected = columns @ np.linalg.lstsq(columns, outputs, rcond=None)[0]
    found = target_for(layer, before, after)
    got = keras.ops.convert_to_numpy(found.layer(after))
    np.testing.assert_allclose(got, expected, atol=0.01)
    np.testing.assert_allclose(found.inputs.mean, after.mean(axis=0), atol=1e-5)


def test_with_the_same_inputs_the_target_is_the_layer():
    layer = keras.layers.Dense(7)
    layer.build((None, 5))
    # Inputs that never differ say nothing of most of the kernel.
    rows = np.ones((30, 5), "float32")
    found = target_for(layer, rows, rows)
    for got, expected in zip(
        found.layer.get_weights(), layer.get_weights(), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(("num_clusters", "quantization"), [(1, None), (2, "int8")])
def test_less_is_lost_in_sequence(digits, trained, num_clusters, quantization):
    x = digits[0]
    same = {"scope": "layer", "quantization": quantization, "side": "outputs"}
    errors, sizes = [], []
    for sequential in (False, True):
        config = MessiConfig(0.7, num_clusters, sequential=sequential, **same)
        small, report = compress(trained, config, "hidden", calibration_data=x[:600])
        change = small.predict(x[600:], verbose=0) - trained.predict(x[600:], verbose=0)
        errors.append(np.square(change).sum())
        sizes.append(report.parameters_after)
    assert errors[1] < 0.85 * errors[0]
    assert sizes[1] < 1.01 * sizes[0]


def test_every_layer_is_fitted_and_the_model_left_as_it_is():
    model = models.composite()
    # The outputs first: how Python writes the code of a Lambda depends on its use.
    models.outputs_of(model)
    before = models.snapshot(model)
    data = models.inputs_of(model, 64)
    small, report = compress(model, CONFIG, calibration_data=data)
    models.assert_unchanged(model, before)
    _, plain = compress(
        model, MessiConfig(rate=0.5, num_clusters=1, scope="layer"), None
    )
    paths = [row.path for row in report.replaced]
    assert paths == [row.path for row in plain.replaced]
    assert np.isfinite(models.outputs_of(small)).all()


@pytest.mark.parametrize("kind", ["none", "statistics", "generator"])
def test_data_must_be_readable_more_than_once(digits, trained, kind):
    x = digits[0][:64]
    data = {
        "none": lambda: None,
        "statistics": lambda: calibrate(trained, x),
        "generator": lambda: iter([x]),
    }[kind]()
    with pytest.raises(ValueError, match="`calibration_data` must .* more than once"):
        compress(trained, CONFIG, calibration_data=data)
