"""What compress() learns from calibration data, and what it leaves out again."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_messi import MessiConfig, calibrate, compress
from keras_messi.cli.demo import accuracy
from keras_messi.report import SkipReason

HIDDEN = ["fc1", "fc2"]


def measured_error(old, new, x):
    """Relative squared error of what two layers compute from inputs."""
    y, z = (ops.convert_to_numpy(layer(x)).astype("float64") for layer in (old, new))
    return np.sum((y - z) ** 2) / np.sum((y - y.mean(axis=0)) ** 2)


def linear(layer):
    """The same layer without its activation."""
    config = {**layer.get_config(), "activation": "linear"}
    copy = type(layer).from_config(config)
    copy.build((None, layer.kernel.shape[0]))
    store = {}
    layer.save_own_variables(store)
    copy.load_own_variables(store)
    return copy


@pytest.fixture(scope="module")
def some_digits(mnist):
    return mnist.x_train[:1500]


def test_the_first_layer_has_the_output_error_that_is_reported(
    trained_lenet, some_digits
):
    config = MessiConfig(rate=0.9, num_clusters=3, scope="layer")
    small, report = compress(trained_lenet, config, "fc1", calibration_data=some_digits)
    (row,) = report.replaced
    old, new = trained_lenet.get_layer("fc1"), small.get_layer("fc1")
    error = measured_error(linear(old), linear(new), some_digits)
    assert row.output_error == pytest.approx(error, rel=1e-3)
    plain, _ = compress(trained_lenet, config, "fc1")
    error = measured_error(linear(old), linear(plain.get_layer("fc1")), some_digits)
    assert row.plain_output_error == pytest.approx(error, rel=1e-3)
    assert row.output_error < row.plain_output_error
    assert "bias correction" in row.adopted


@pytest.mark.parametrize("ranks", ["budget", "uniform"])
def test_no_layer_is_worse_for_calibration(trained_lenet, some_digits, ranks):
    config = MessiConfig(rate=0.9, num_clusters=3, ranks=ranks, scope="layer")
    _, report = compress(trained_lenet, config, HIDDEN, calibration_data=some_digits)
    for row in report.replaced:
        assert row.output_error <= row.plain_output_error
        assert {*row.adopted, *row.dropped} == {"second moment", "bias correction"}
        assert not {*row.adopted} & {*row.dropped}
    assert "on calibration data" in str(report)
    assert json.loads(report.to_json())["replaced"][0]["adopted"]


def test_unequal_ranks_keep_more_of_lenet_than_equal_ones(trained_lenet, mnist):
    x, y = mnist.x_train[:5000], mnist.y_train[:5000]
    uniform, _ = compress(trained_lenet, MessiConfig(0.9, ranks="uniform"), HIDDEN)
    budget, report = compress(trained_lenet, MessiConfig(0.9, scope="layer"), HIDDEN)
    assert accuracy(budget, x, y) > accuracy(uniform, x, y) + 0.02
    for row in report.replaced:
        n, d = row.shape
        assert row.parameters_after - d <= n * d // 10  # the bias aside
        assert len(set(row.ranks)) > 1


def word_counter(table):
    tokens = keras.Input((None,), dtype="int32")
    layer = keras.layers.Embedding(*table.shape, name="words")
    model = keras.Model(tokens, layer(tokens))
    layer.set_weights([table])
    return model


def test_rows_that_are_looked_up_more_are_kept_better():
    rng = np.random.default_rng(0)
    model = word_counter(rng.normal(size=(200, 16)).astype("float32"))
    tokens = rng.integers(0, 20, (50, 10))
    config = MessiConfig(rate=0.6, num_clusters=2, scope="layer")
    small, report = compress(model, config, calibration_data=tokens)
    plain, _ = compress(model, config)
    rare = np.arange(20, 200)[np.newaxis]

    def error(other, x):
        return np.sum(ops.convert_to_numpy(model(x) - other(x)) ** 2)

    assert error(small, tokens) < 0.7 * error(plain, tokens)
    assert error(small, rare) > error(plain, rare)
    (row,) = report.replaced
    assert row.adopted == ["row weights"]
    total = np.sum(ops.convert_to_numpy(model(tokens)) ** 2)
    assert row.output_error == pytest.approx(error(small, tokens) / total, rel=1e-3)


def test_one_watch_serves_several_compressions(trained_lenet, some_digits):
    config = MessiConfig(rate=0.9, num_clusters=2, scope="layer")
    found = calibrate(trained_lenet, some_digits, HIDDEN)
    assert list(found.by_path) == HIDDEN
    _, report = compress(trained_lenet, config, HIDDEN, calibration_data=found)
    _, other = compress(trained_lenet, config, HIDDEN, calibration_data=some_digits)
    assert report == other


def test_what_was_found_on_another_model_is_refused(trained_lenet, some_digits):
    found = calibrate(trained_lenet, some_digits, "fc1")
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(30, name="fc1")])
    with pytest.raises(ValueError, match="of the same model. Received: data on 784"):
        compress(model, MessiConfig(0.5, scope="layer"), calibration_data=found)


@pytest.mark.parametrize("scope", ["layer", "model"])
def test_one_row_of_inputs_teaches_only_the_bias(trained_lenet, some_digits, scope):
    config = MessiConfig(rate=0.9, num_clusters=2, scope=scope)
    _, report = compress(
        trained_lenet, config, HIDDEN, calibration_data=some_digits[:1]
    )
    _, plain = compress(trained_lenet, config, HIDDEN)
    for row, other in zip(report.replaced, plain.replaced, strict=True):
        assert row.relative_error == pytest.approx(other.relative_error)


def test_inputs_that_never_change_cost_next_to_nothing():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(12)])
    data = rng.normal(size=(64, 40)).astype("float32")
    data[:, 3:] = 1  # fewer inputs that change than clusters
    config = MessiConfig(rate=0.5, num_clusters=5, scope="layer")
    _, report = compress(model, config, calibration_data=data)
    (row,) = report.replaced
    assert row.output_error < 0.05 * row.plain_output_error


def test_a_layer_that_no_batch_reaches_does_without(trained_lenet, some_digits):
    found = calibrate(trained_lenet, some_digits, "fc1")
    _, report = compress(
        trained_lenet, MessiConfig(0.8, scope="layer"), HIDDEN, calibration_data=found
    )
    first, second = report.replaced
    assert first.output_error is not None
    assert second.output_error is None


def test_one_budget_for_the_model_evens_out_the_last_number(trained_lenet, some_digits):
    config = MessiConfig(rate=0.9, num_clusters=2, scope="model")
    _, report = compress(trained_lenet, config, HIDDEN)
    biases = 300 + 100
    spent = sum(row.parameters_after for row in report.replaced) - biases
    assert 0.9 * 26_520 < spent <= 26_520
    first, second = (
        row.parameters_after / row.parameters_before for row in report.replaced
    )
    assert second > 1.5 * first  # which fewer numbers make as exact


def test_layers_worth_all_their_numbers_are_left_whole():
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((300,)),
            keras.layers.Dense(200, name="flat"),
            keras.layers.Dense(8, name="sharp"),
        ]
    )
    low = rng.normal(size=(300, 20)) @ rng.normal(size=(20, 200))
    model.get_layer("flat").kernel.assign(low)
    config = MessiConfig(rate=0.5, num_clusters=1, scope="model")
    small, report = compress(model, config)
    assert [row.path for row in report.replaced] == ["flat"]
    assert [(x.path, x.reason) for x in report.skipped] == [("sharp", SkipReason.WHOLE)]
    assert isinstance(small.get_layer("sharp"), keras.layers.Dense)


def test_a_budget_below_one_direction_each_says_the_smallest(trained_lenet):
    config = MessiConfig(rate=0.99, num_clusters=5, scope="model")
    with pytest.raises(ValueError, match=r"at least \d+ numbers.*leaves 2652"):
        compress(trained_lenet, config, HIDDEN)


def test_the_number_of_clusters_can_be_found(trained_lenet):
    config = MessiConfig(rate=0.95, num_clusters="auto", scope="layer")
    _, report = compress(trained_lenet, config, HIDDEN)
    for row in report.replaced:
        one = MessiConfig(rate=0.95, num_clusters=1, scope="layer")
        _, alone = compress(trained_lenet, one, f"^{row.path}$")
        assert row.relative_error <= alone.replaced[0].relative_error


def test_k_means_clusters_are_another_partition(trained_lenet):
    config = {"rate": 0.9, "num_clusters": 3, "ranks": "uniform"}
    ours, theirs = (
        compress(trained_lenet, MessiConfig(**config, clustering=name), "fc1")[1]
        for name in ("subspaces", "k-means")
    )
    assert ours.replaced[0].relative_error < theirs.replaced[0].relative_error
    assert ours.replaced[0].parameters_after == theirs.replaced[0].parameters_after


def test_another_loss_bears_with_outliers():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 12))
    rows[:4] = 50 * rng.normal(size=(4, 12))
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(12)])
    model.layers[0].kernel.assign(rows)
    errors = {}
    for loss in ("squared", "l1"):
        config = MessiConfig(rank=2, num_clusters=1, loss=loss)
        small, _ = compress(model, config)
        kernel = ops.convert_to_numpy(small.layers[0].kernel)
        errors[loss] = np.sum((kernel[4:] - rows[4:]) ** 2)
    assert errors["l1"] < 0.01 * errors["squared"]
