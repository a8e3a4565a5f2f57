"""What `MessiConfig(rate=...)` does without any other choice."""

import keras
import numpy as np
import pytest

from keras_messi import MessiConfig, compress
from keras_messi.calibration.outputs import float_outputs, output_change
from keras_messi.calibration.statistics import vocabulary_weights
from keras_messi.models.keras.inputs import random_inputs
from keras_messi.models.keras.surgery import find_layers
from keras_messi.report import SkipReason


def classifier(vocabulary, activation=False):
    """Words, a Dense layer, and a head, with or without softmax."""
    layers = [
        keras.Input((6,), dtype="int32"),
        keras.layers.Embedding(vocabulary, 8, name="words"),
        keras.layers.Flatten(),
        keras.layers.Dense(60, "relu", name="wide"),
        keras.layers.Dense(50, name="head"),
    ]
    return keras.Sequential(layers + [keras.layers.Softmax()] * activation)


def replaced(model, **options):
    _, report = compress(model, MessiConfig(rate=0.3, num_clusters=1, **options))
    left = {x.path for x in report.skipped if x.reason == SkipReason.LEFT_ALONE}
    return {x.path for x in report.replaced}, left


def test_large_tables_are_taken_and_all_else_left_alone():
    assert replaced(classifier(400)) == ({"words"}, {"wide", "head"})


def test_without_a_large_table_large_layers_before_the_last_are_taken():
    for activation in (False, True):
        assert replaced(classifier(20, activation)) == ({"wide"}, {"words", "head"})


def test_all_are_taken_if_there_is_nothing_to_choose():
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(30)])
    assert replaced(model) == ({"dense"}, set()) or not replaced(model)[1]


def test_every_layer_is_one_word_away():
    chosen, left = replaced(classifier(400), scope="layer")
    assert {"words", "wide"} <= chosen
    assert not left


def test_filters_choose_the_layers():
    _, report = compress(classifier(400), MessiConfig(0.3, num_clusters=1), "wide|head")
    assert {x.path for x in report.replaced} == {"wide", "head"}


def test_layers_chosen_together_share_the_rate():
    model = classifier(400)
    _, report = compress(model, MessiConfig(0.3, num_clusters=1), "words|wide")
    before = sum(np.prod(x.shape) for x in report.replaced)
    after = sum(x.parameters_after for x in report.replaced) - 60
    assert 0.5 * before < after <= 0.7 * before


def test_lenet_keeps_its_accuracy(trained_lenet, mnist):
    for rate, least in ((0.8, 97.9), (0.9, 97.5)):
        small, report = compress(trained_lenet, MessiConfig(rate=rate))
        found = small.predict(mnist.x_test, batch_size=2000, verbose=0).argmax(axis=1)
        assert 100 * np.mean(found == mnist.y_test) >= least
        assert [x.path for x in report.skipped] == ["fc3"]


def test_there_is_a_warning_if_the_outputs_change_much(trained_lenet, mnist):
    few, digits = MessiConfig(rate=0.97, num_clusters=1), mnist.x_train[:64]
    with pytest.warns(UserWarning, match=r"differ by \d.* both squared. Fine-tune"):
        small, report = compress(trained_lenet, few, calibration_data=digits)
    outputs = [float_outputs(model(digits)) for model in (trained_lenet, small)]
    assert report.output_change == pytest.approx(output_change(*outputs), rel=1e-3)
    assert report.output_change > 0.3
    assert report.change_as_text() in str(report)


def test_the_change_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 100, 5))
    spread = np.sum((a - a.mean(axis=0)) ** 2)
    assert output_change([a], [b]) == pytest.approx(np.sum((a - b) ** 2) / spread)
    assert output_change([a], [a]) == 0
    assert output_change([a * 0], [b]) == float("inf")


def test_padding_and_integers_are_no_outputs():
    states, mask = np.arange(12.0).reshape(2, 3, 2), np.array([[1, 1, 0], [1, 0, 0]])
    found = float_outputs({"states": states, "ids": np.arange(2)}, mask == 1)
    assert len(found) == 1
    assert np.array_equal(found[0], states[[0, 0, 1], [0, 1, 0]])


def test_random_inputs_fit_the_model():
    model = classifier(20)
    ids = random_inputs(model, 32)
    assert ids.shape == (32, 6)
    assert 0 <= ids.min() <= ids.max() < 20
    assert model(ids).shape == (32, 50)


def test_rows_of_a_vocabulary_count_less_and_less():
    weights = vocabulary_weights(30_000)
    assert weights.mean() == pytest.approx(1)
    assert np.all(np.diff(weights) < 0)
    # As many times as Zipf's law says, beyond the entries that are no words.
    assert weights[1000] / weights[19_000] == pytest.approx(10)


def test_only_layers_before_nothing_with_weights_are_last():
    last = [x.path for x in find_layers(classifier(20, activation=True)) if x.is_last]
    assert last == ["head"]
    inner = keras.Sequential([keras.Input((50,)), keras.layers.Dense(3, name="inner")])
    outer = keras.Sequential([classifier(20), inner])
    found = [x.path for x in find_layers(outer) if x.is_last]
    assert [path.rpartition("/")[2] for path in found] == ["inner"]
