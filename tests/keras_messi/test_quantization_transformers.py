"""Quantized layers in models of transformers."""

from functools import cache
from itertools import product

import keras
import numpy as np
import pytest
from keras.quantizers import Int4QuantizationConfig, Int8QuantizationConfig

from tests.keras_messi import transformer_models as models

if models.MISSING:
    pytest.skip(models.MISSING, allow_module_level=True)

from keras_messi import MessiConfig, compress, dequantize, quantize
from keras_messi.models.huggingface import models as hf
from tests.reference import relative_error

from .test_huggingface import run_python

# What torch says of a transpose of one axis in the ReversibleEmbedding of Keras.
pytestmark = [
    pytest.mark.slow,
    models.FILTERS,
    pytest.mark.filterwarnings("ignore:.*use of `x.T`"),
]

STOCK = {
    "int8": Int8QuantizationConfig(activation_quantizer=None),
    "int4": Int4QuantizationConfig(block_size=8),
}


NAMES = ["BertForMaskedLM", "BertModel"]


@cache
def compressed(name):
    model = models.build(name, **models.LARGER)
    config = MessiConfig(rate=0.3, num_clusters=2, scope="layer")
    return compress(model, config, ["word_embeddings", "dense"])[0]


@pytest.fixture(params=NAMES)
def small(request):
    return compressed(request.param)


def quantized_by_keras(model, mode, part):
    """A copy with all Dense and Embedding layers in a part quantized by Keras."""
    layers = {}
    for place in hf.find_layers(model):
        kinds = keras.layers.Dense | keras.layers.Embedding
        if isinstance(place.layer, kinds) and part in place.path:
            new = type(place.layer).from_config(place.layer.get_config())
            new.build_from_config(place.layer.get_build_config())
            new.set_weights(place.layer.get_weights())
            new.quantize(config=STOCK[mode])
            layers[place.layer] = new
    return hf.replace_layers(model, layers)


def half_by_keras(model, mode):
    """The factored word table quantized by us, the positions by Keras."""
    quantized = quantize(model, mode, "word_embeddings")
    return quantized_by_keras(quantized, mode, "position")


def whole_layers(model, mode):
    """What filters select, which is not factored."""
    return quantize(model, mode, "query|position")


def test_factors_are_quantized_and_back(small, mode):
    quantized = quantize(small, mode)
    bound = {"int8": 0.05, "int4": 0.5}[mode]
    before = models.outputs_of(small)
    assert relative_error(models.outputs_of(quantized), before) < bound
    assert hf.count_parameters(quantized) == hf.count_parameters(small)
    assert hf.stored_bytes(quantized) < hf.stored_bytes(small)
    back = dequantize(quantized)
    np.testing.assert_allclose(
        models.outputs_of(back), models.outputs_of(quantized), atol=2e-4
    )
    counts = [len(models.trained_weights(model)) for model in (small, back)]
    assert counts[0] == counts[1]
    models.train_one_step(back)
    assert relative_error(models.outputs_of(back), models.outputs_of(quantized)) > 0


def test_only_a_part_is_quantized_and_trains_around_it(small, mode):
    quantized = quantize(small, mode, "word_embeddings")
    layers = {place.path: place.layer for place in hf.find_layers(quantized)}
    (words,) = [layer for path, layer in layers.items() if "word_embeddings" in path]
    modes = [getattr(layer, "quantization", None) for layer in layers.values()]
    assert words.quantization == mode
    assert modes.count(mode) == 1
    models.train_one_step(quantized)


@pytest.mark.parametrize("part", ["word_embeddings", "output"])
def test_layers_are_quantized_by_keras(mode, part):
    model = models.build("BertForMaskedLM", **models.LARGER)
    numbers, size = hf.count_parameters(model), hf.stored_bytes(model)
    quantized = quantized_by_keras(model, mode, part)
    bound = {"int8": 0.05, "int4": 0.5}[mode]
    before = models.outputs_of(model)
    assert 0 < relative_error(models.outputs_of(quantized), before) < bound
    assert hf.count_parameters(quantized) == numbers
    assert hf.stored_bytes(quantized) < size
    models.train_one_step(quantized)


def test_all_reload_in_a_fresh_process_bit_for_bit(tmp_path):
    outputs = {}
    for make, name, mode in product((half_by_keras, whole_layers), NAMES, STOCK):
        model = make(compressed(name), mode)
        folder = tmp_path / f"{make.__name__}-{name}-{mode}"
        model.save_pretrained(folder)
        outputs[folder] = models.outputs_of(model)
    code = """
        import sys, numpy as np
        from keras_messi.huggingface import from_pretrained
        from tests.keras_messi import transformer_models as models
        for folder in sys.argv[1:]:
            np.save(folder + "/y.npy", models.outputs_of(from_pretrained(folder)))
        """
    result = run_python(code, *outputs)
    assert result.returncode == 0, result.stderr
    for folder, expected in outputs.items():
        assert np.array_equal(np.load(folder / "y.npy"), expected), folder


def test_a_stock_layer_that_keras_quantized_can_be_beside_factored_ones(small, mode):
    model = quantized_by_keras(small, mode, "position")
    quantized = quantize(model, mode)
    bound = {"int8": 0.05, "int4": 0.5}[mode]
    assert (
        relative_error(models.outputs_of(quantized), models.outputs_of(model)) < bound
    )


def test_layers_that_filters_select_are_quantized_whole(small, mode):
    model = whole_layers(small, mode)
    stock = [
        place.path
        for place in hf.find_layers(model)
        if getattr(place.layer, "quantization_mode", None) == mode
    ]
    assert stock
    assert all("query" in path or "position" in path for path in stock)
    bound = {"int8": 0.05, "int4": 0.5}[mode]
    found = relative_error(models.outputs_of(model), models.outputs_of(small))
    assert found < bound
