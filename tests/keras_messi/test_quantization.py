"""Models with factors of 8 and 4 bits, on whichever backend Keras runs."""

import gc

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

from keras_messi import (
    MessiConfig,
    compress,
    dequantize,
    load_model,
    quantize,
    save_model,
)
from keras_messi.layers import MessiDense, MessiEmbedding
from keras_messi.layers.replacement import copy_layer
from keras_messi.layers.sizes import stored_bytes
from keras_messi.models.adapter import family_of
from keras_messi.models.keras import folding
from keras_messi.models.keras.sizes import count_parameters
from tests.keras_messi import models
from tests.reference import relative_error

from .factored import TOKENS, D, N
from .test_saving import run_python

BACKEND = keras.backend.backend()


def text_model(**arguments):
    tokens = keras.Input((7,), dtype="int32")
    words = MessiEmbedding(N, D, 3, [1, 2, 3], [5, 3, 4], name="words", **arguments)
    x = keras.layers.Flatten()(words(tokens))
    x = keras.layers.Dense(9, name="stock")(x)
    x = MessiDense(5, 2, 3, name="hidden", activation="tanh")(x)
    return keras.Model(tokens, MessiDense(4, 2, 3, name="head")(x))


def outputs_of(model):
    return ops.convert_to_numpy(model(TOKENS, training=False))


def test_a_copy_of_a_model_is_quantized_and_back(mode):
    model = text_model()
    before = [ops.convert_to_numpy(w) for w in model.weights]
    small = quantize(model, mode)
    for weight, old in zip(model.weights, before, strict=True):
        assert np.array_equal(ops.convert_to_numpy(weight), old)
    assert small.get_layer("words").quantization == mode
    assert count_parameters(small) == count_parameters(model)
    assert len(small.trainable_weights) == 4  # of the Dense layer and two biases
    back = dequantize(small)
    assert len(back.trainable_weights) == len(model.trainable_weights)
    assert_allclose(outputs_of(back), outputs_of(small), atol=1e-5)
    bound = {"int8": 0.05, "int4": 0.6}[mode]
    assert relative_error(outputs_of(small), outputs_of(model)) < bound


@pytest.mark.parametrize("lookup", ["auto", "wide"])
def test_compiled_functions_compute_the_same(mode, lookup):
    model = quantize(text_model(lookup=lookup), mode)
    # XLA can't compile look-ups by cluster.
    model.compile(jit_compile=lookup == "wide" and BACKEND != "torch")
    assert_allclose(model.predict(TOKENS, verbose=0), outputs_of(model), atol=1e-5)


def test_layers_of_keras_are_replaced_by_quantized_ones(mode, tmp_path):
    model = text_model()
    stock = model.get_layer("stock")
    new = copy_layer(stock)
    new.quantize(mode)
    small = family_of(model).replace_layers(model, {stock: new})
    assert count_parameters(small) == count_parameters(model)
    assert stored_bytes([small.get_layer("stock")]) < stored_bytes([stock])
    save_model(small, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert loaded.get_layer("stock").quantization_mode == mode
    assert np.array_equal(outputs_of(loaded), outputs_of(small))
    assert relative_error(outputs_of(small), outputs_of(model)) < 0.3


def test_only_what_the_filters_match_is_quantized():
    small = quantize(text_model(), "int4", filters="words")
    assert small.get_layer("words").quantization == "int4"
    assert small.get_layer("head").quantization is None
    assert type(small.get_layer("stock")) is keras.layers.Dense
    mixed = quantize(small, "int8", filters=lambda layer: layer.name == "head")
    assert mixed.get_layer("words").quantization == "int4"
    assert mixed.get_layer("head").quantization == "int8"


def test_objects_that_were_frozen_stay_frozen():
    model = text_model()
    assert gc.get_freeze_count() == 0
    quantize(model, "int8", "stock")
    assert gc.get_freeze_count() == 0
    gc.freeze()
    frozen = gc.get_freeze_count()
    quantize(model, "int8", "stock")
    left = gc.get_freeze_count()
    gc.unfreeze()
    assert 0.9 * frozen < left <= frozen  # some are deleted


def test_nothing_to_change_is_an_error():
    model = text_model()
    with pytest.raises(ValueError, match="must match a layer that can.*'none'"):
        quantize(model, "int8", "none")
    with pytest.raises(ValueError, match="must match a layer that can"):
        dequantize(model)
    with pytest.raises(ValueError, match="must match a layer that can"):
        quantize(quantize(model, "int8"), "int4")
    with pytest.raises(ValueError, match="`mode` must be one of.*'int2'"):
        quantize(model, "int2")


# What Keras says of layers that it leaves as they are.
keras_says = pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method")


@keras_says
def test_models_of_keras_quantize_factored_layers(mode):
    model = text_model()
    before = outputs_of(model)
    numbers = count_parameters(model)
    model.quantize(mode)
    assert model.get_layer("words").quantization == mode
    assert model.get_layer("stock").quantization_mode == mode
    assert count_parameters(model) == numbers
    bound = {"int8": 0.06, "int4": 0.7}[mode]
    assert relative_error(outputs_of(model), before) < bound
    with pytest.raises(ValueError, match="quantized"):
        model.quantize(mode)


@keras_says
def test_models_of_keras_refuse_other_modes():
    model = text_model()
    with pytest.raises(ValueError, match="`mode` must be one of.*'float8'"):
        model.quantize("float8")


def test_filters_of_keras_select_layers(mode):
    model = text_model()
    model.quantize(mode, filters="^head$")
    assert model.get_layer("head").quantization == mode
    assert model.get_layer("words").quantization is None


def test_folding_spares_quantized_layers_their_ids(mode):
    model = quantize(text_model(), mode)
    folded, what = folding.fold_permutations(model)
    assert len(what) == 2
    assert folded.get_layer("head").routing is None
    assert folded.get_layer("head").quantization == mode
    assert_allclose(outputs_of(folded), outputs_of(model), atol=1e-5)


LOAD = """
import sys, numpy as np, keras, keras_messi.layers
model = keras.saving.load_model(sys.argv[1])
x = np.load(sys.argv[2])
np.save(sys.argv[3], keras.ops.convert_to_numpy(model(x, training=False)))
assert "kprojclust" not in sys.modules
"""


@pytest.mark.slow
def test_a_fresh_process_loads_a_quantized_model(tmp_path):
    model = quantize(
        quantize(text_model(), "int8", "words"), "int4", ["head", "hidden"]
    )
    save_model(model, tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", TOKENS)
    names = ("model.keras", "x.npy", "y.npy")
    files = [str(tmp_path / name) for name in names]
    result = run_python(LOAD, *files)
    assert result.returncode == 0, result.stderr
    assert np.array_equal(np.load(files[2]), outputs_of(model))


@pytest.mark.parametrize(
    "build", [models.sequential, models.siamese, models.subclassed]
)
def test_all_kinds_of_models_are_quantized_saved_and_back(build, tmp_path):
    small, _ = compress(build(), MessiConfig(rate=0.3, num_clusters=2, scope="layer"))
    before = models.snapshot(small)
    quantized = quantize(small, "int8")
    models.assert_unchanged(small, before)
    assert type(quantized).__name__ == type(small).__name__
    assert count_parameters(quantized) == count_parameters(small)
    save_model(quantized, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    outputs = models.outputs_of(quantized)
    assert np.array_equal(models.outputs_of(loaded), outputs)
    assert relative_error(outputs, models.outputs_of(small)) < 0.1
    back = dequantize(loaded)
    assert len(back.trainable_weights) == len(small.trainable_weights)
    assert_allclose(models.outputs_of(back), outputs, atol=1e-5)


def test_the_file_shrinks_by_the_bytes(mode, tmp_path):
    family = family_of(text_model())
    model = keras.Sequential([keras.Input((400,)), MessiDense(300, 3, 41)])
    small = quantize(model, mode)
    saved = family.stored_bytes(model) - family.stored_bytes(small)
    shrunk = family.saved_size(model) - family.saved_size(small)
    assert abs(shrunk - saved) < 8192  # scales have a place of their own in the file
