"""Bytes of exported files: forecast before they are written, and why they grow."""

from functools import cache

import keras
import pytest

from keras_messi import (
    BudgetConfig,
    MessiConfig,
    PQConfig,
    RoundingConfig,
    compress,
    export,
    quantize,
)
from keras_messi.cli.demo import lenet_300_100
from keras_messi.cli.inspection import describe_layers
from keras_messi.exporting.forecast import forecast_sizes
from keras_messi.report import CompressionReport

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow writes all formats", allow_module_level=True)

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}
FACTORS = MessiConfig(rate=0.8, num_clusters=3)


def recommender():
    """Tables of users and items, one looked up twice, and Dense layers."""
    keras.utils.set_random_seed(0)
    user = keras.Input((1,), dtype="int32", name="user")
    history = keras.Input((5,), dtype="int32", name="history")
    items = keras.layers.Embedding(2000, 32, name="items")
    x = [keras.layers.Flatten()(keras.layers.Embedding(3000, 32, name="users")(user))]
    x += [keras.layers.Flatten()(items(history))]
    x += [keras.layers.GlobalAveragePooling1D()(items(history))]
    x = keras.layers.Dense(128, "relu", name="hidden")(keras.layers.Concatenate()(x))
    x = keras.layers.Dense(1, "sigmoid", name="head")(x)
    return keras.Model([user, history], x)


NETWORKS = {"LeNet-300-100": lenet_300_100(), "recommender": recommender()}
FORMS = {
    "floats": lambda name: NETWORKS[name],
    "factors": lambda name: compress(NETWORKS[name], FACTORS)[0],
    "int8": lambda name: quantize(made(name, "factors"), "int8"),
    "int4": lambda name: quantize(made(name, "factors"), "int4"),
    "codes": lambda name: compress(NETWORKS[name], PQConfig(4, 256))[0],
    "3 bits": lambda name: compress(NETWORKS[name], RoundingConfig(3, 64))[0],
    "Keras int4": lambda name: quantize(NETWORKS[name], "int4", ".*"),
}


@cache
def made(network, form):
    """A network in a form."""
    return FORMS[form](network)


def file_size(model, folder, format):
    path = folder / f"model{SUFFIXES[format]}"
    export(model, path)
    return path.stat().st_size


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_forecast_is_the_size_of_the_file(network, form, tmp_path):
    model = made(network, form)
    forecast = forecast_sizes(model)
    assert set(forecast) == set(SUFFIXES)
    for format, size in forecast.items():
        assert size == pytest.approx(file_size(model, tmp_path, format), rel=0.05)


@pytest.fixture(scope="module")
def entropy_coded():
    """A network, what an entropy code takes least for, and the report about it."""
    model = lenet_300_100()
    for layer in model.layers:
        layer.kernel.assign(10 * layer.kernel**5)  # few are large
    return model, *compress(model, BudgetConfig(times_smaller=16))


def test_the_report_tells_what_exports_will_take(entropy_coded):
    model, small, report = entropy_coded
    assert report.export_bytes_before == forecast_sizes(model)
    assert report.export_bytes_after == forecast_sizes(small)
    assert report.export_bytes_after["onnx"] > 1.5 * report.file_bytes_after
    before, after = report.export_bytes_before, report.export_bytes_after
    (line,) = [x for x in str(report).splitlines() if "exported, onnx" in x]
    assert f"{before['onnx']:,}" in line
    assert f"{after['onnx']:,}" in line
    assert CompressionReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("format", SUFFIXES)
def test_a_file_much_larger_than_the_saved_model_is_warned_of(
    entropy_coded, tmp_path, format
):
    with pytest.warns(UserWarning, match=f'small for fc1.*target="{format}"'):
        file_size(entropy_coded[1], tmp_path, format)


def test_inspect_forecasts_the_export_of_what_it_forecasts():
    model, small = NETWORKS["recommender"], made("recommender", "factors")
    table = describe_layers(model, FACTORS)
    for format, now in forecast_sizes(model).items():
        (line,) = [x for x in table.splitlines() if f"to {format} " in x]
        then = int(line.split()[-3].replace(",", ""))
        assert f" {now:,} " in line
        assert then == pytest.approx(forecast_sizes(small)[format], rel=0.1)


def test_a_layer_that_cannot_be_exported_in_its_form_counts_as_floats():
    inputs = keras.Input((300,), dtype="float16")
    model = keras.Model(inputs, keras.layers.Dense(200, dtype="float16")(inputs))
    small = compress(model, RoundingConfig(4), ".*")[0]
    assert forecast_sizes(small)["onnx"] > 4 * 300 * 200


def test_formats_that_a_backend_does_not_write_are_not_forecast(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert forecast_sizes(NETWORKS["recommender"]) == {}
