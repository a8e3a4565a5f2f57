"""Architectures of transformers whose matrices are no plain Dense layers and tables."""

import keras
import numpy as np
import pytest

from keras_messi import RoundingConfig, calibrate, compress
from keras_messi.layers.replacement import copy_layer
from keras_messi.layers.whole_matrix import multiplied_out
from keras_messi.models.adapter import family_of, outputs_of
from keras_messi.models.huggingface import from_pretrained
from keras_messi.models.huggingface import models as hf
from keras_messi.models.huggingface.frameworks import adapter_for
from keras_messi.models.huggingface.inputs import random_inputs
from keras_messi.models.huggingface.proxies import as_matrix, is_matrix
from tests.keras_messi import transformer_models as models

if models.MISSING:
    pytest.skip(models.MISSING, allow_module_level=True)

pytestmark = [
    models.FILTERS,
    pytest.mark.filterwarnings("ignore:`TFSharedEmbeddings` is:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The initializer TruncatedNormal:UserWarning"),
]
adapter = adapter_for(models.BACKEND)
INTEGERS = RoundingConfig(8, None)

SIZES = {
    "GPT2LMHeadModel": {
        **{"vocab_size": 40, "n_embd": 24, "n_layer": 1, "n_head": 2},
        **{"n_positions": 20, "bos_token_id": 1, "eos_token_id": 2},
    },
    "T5ForConditionalGeneration": {
        **{"vocab_size": 40, "d_model": 24, "d_kv": 8, "d_ff": 32},
        **{"num_layers": 1, "num_heads": 2, "relative_attention_num_buckets": 8},
    },
    "BartForConditionalGeneration": {
        **{"vocab_size": 40, "d_model": 24, "encoder_layers": 1, "decoder_layers": 1},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
        **{"encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
        **{"max_position_embeddings": 20, "scale_embedding": True},
    },
    "XLNetLMHeadModel": {
        **{"vocab_size": 40, "d_model": 24, "n_layer": 1, "n_head": 2, "d_head": 12},
        "d_inner": 32,
    },
}
# Tables of the vocabulary that all that reads or multiplies by them shares.
TABLES = {
    "GPT2LMHeadModel": "wte",
    "T5ForConditionalGeneration": "shared",
    "BartForConditionalGeneration": "shared",
    "XLNetLMHeadModel": "word_embedding",
}


def build(name):
    model_class = models.class_named(name)
    keras.utils.set_random_seed(0)
    model = model_class(model_class.config_class(**SIZES[name]))
    if models.BACKEND == "tensorflow":
        model.build_in_name_scope()
    else:
        model.eval()
    rng = np.random.default_rng(0)
    for weight in models.trained_weights(model):
        noise = 0.1 * rng.standard_normal(weight.shape)
        models.set_weight(weight, models.read(weight) + noise)
    return model


QUICK = "GPT2LMHeadModel"
CASES = [pytest.param(x, marks=[] if x == QUICK else pytest.mark.slow) for x in SIZES]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A model, inputs for it, and what compress makes of it in 8 bits."""
    model = build(request.param)
    return request.param, model, random_inputs(model, 2), *compress(model, INTEGERS)


def outputs(model, inputs):
    return outputs_of(family_of(model), model, inputs)


def assert_same(model, other, inputs, **close):
    for x, y in zip(outputs(model, inputs), outputs(other, inputs), strict=True):
        np.testing.assert_allclose(x, y, **close)


def matrices_of(model):
    kinds = keras.layers.Dense | keras.layers.Embedding
    return [x for x in hf.find_layers(model) if isinstance(x.layer, kinds)]


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        ((6, 4), (6, 4)),
        ((6, 2, 3), (6, 6)),
        ((2, 3, 6), (6, 6)),
        ((3, 3, 16, 32), (144, 32)),
        ((1, 1, 5), (1, 5)),
        ((5,), (1, 1)),
        ((), (1, 1)),
    ],
)
def test_axes_are_joined_to_what_is_nearest_to_a_square(shape, matrix):
    assert as_matrix(shape) == matrix
    assert is_matrix(shape) is (min(matrix) > 1)


def test_stock_layers_with_the_same_weights_compute_the_same(case):
    _, model, inputs, *_ = case
    new = {x.layer: copy_layer(x.layer) for x in matrices_of(model)}
    before, other = outputs(model, inputs), hf.replace_layers(model, new)
    assert len(adapter.factored_layers(other)) == len(new)
    assert_same(model, other, inputs, atol=2e-5)
    stored = adapter.factored_layers(other)
    with hf.substitute(model, {x.layer: stored[x.path] for x in matrices_of(model)}):
        assert_same(model, other, inputs, atol=1e-6)
    for x, y in zip(before, outputs(model, inputs), strict=True):
        assert np.array_equal(x, y)


def test_all_but_norms_and_vectors_is_compressed(case):
    *_, report = case
    for layer in report.skipped:
        assert layer.parameters <= 4 * 40, layer
    assert sum(x.parameters for x in report.skipped) < 0.1 * report.parameters_before


def test_a_shared_table_is_replaced_once_for_all(case):
    name, _, _, small, report = case
    paths = [x.path for x in report.replaced if x.shape == (40, 24)]
    assert len(paths) == 1
    assert TABLES[name] in paths[0]
    weights = models.trained_weights(small)
    assert not [x for x in weights if tuple(x.shape) == (40, 24)]
    assert report.output_change < 0.01


def test_what_is_saved_loads_bit_for_bit(case, tmp_path):
    _, _, inputs, small, _ = case
    small.save_pretrained(tmp_path)
    assert_same(from_pretrained(tmp_path), small, inputs, rtol=0, atol=0)


def test_a_compressed_model_is_compressed_further_and_copied(case):
    _, model, inputs, small, report = case
    paths = [x.path for x in report.replaced]
    half, _ = compress(model, INTEGERS, lambda x: x.name in {"wte", "shared", "q"})
    assert 0 < len(adapter.factored_layers(half)) < len(paths)
    whole, _ = compress(half, INTEGERS)
    assert set(adapter.factored_layers(whole)) == set(paths)
    assert_same(whole, small, inputs, atol=1e-6)
    assert_same(hf.replace_layers(small, {}), small, inputs, rtol=0, atol=0)


def test_ids_are_counted_for_all_that_share_a_table(case):
    name, model, inputs, *_ = case
    found = calibrate(model, [inputs], TABLES[name]).by_path
    (counts,) = [x.counts for x in found.values() if x.size == 40]
    ids = [inputs[x].ravel() for x in ("input_ids", "decoder_input_ids") if x in inputs]
    np.testing.assert_array_equal(
        counts, sum(np.bincount(x, minlength=40) for x in ids)
    )


def test_data_are_used_where_inputs_are_known(case):
    name, model, inputs, *_ = case
    found = calibrate(model, [inputs]).by_path
    known = {"GPT2LMHeadModel": "c_fc", "XLNetLMHeadModel": "layer_1"}
    assert [x for x in found if known.get(name, "fc1" if "Bart" in name else "wi") in x]
    small, report = compress(model, INTEGERS, calibration_data=[inputs])
    assert report.output_change < 0.01


def test_what_is_frozen_stays_frozen(case):
    _, model, *_ = case
    model = hf.replace_layers(model, {})
    for weight in frozen_part(model):
        freeze(weight)
    small, report = compress(model, models.CONFIG)
    trained = {id(weight) for weight in models.trained_weights(small)}
    expected = trained_paths(model)
    for path, layer in adapter.factored_layers(small).items():
        found = {id(x.value) in trained for x in layer.trainable_variables}
        assert found == {path in expected} or not layer.trainable_variables, path


def frozen_part(model):
    """Every other layer, or weight, of a model."""
    if models.BACKEND == "torch":
        return list(model.parameters())[::2]
    layers = [x for x in adapter.layers_of(model) if x.weights]
    return [x for x in layers if not list(x._flatten_layers(include_self=False))][::2]


def freeze(part):
    if models.BACKEND == "torch":
        part.requires_grad_(False)
    else:
        part.trainable = False


def trained_paths(model):
    """Paths of the matrices that are trained."""
    trained = {id(weight) for weight in models.trained_weights(model)}
    names = adapter.matrix_names(model)
    stock = adapter.stock_weights(model)
    return {path for path, name in names.items() if id(stock[name]) in trained}


def test_gradients_reach_the_factors_of_what_they_reach_in_the_model(case):
    _, model, *_ = case
    model = hf.replace_layers(model, {})
    small, _ = compress(model, models.CONFIG)
    names, stock = adapter.matrix_names(model), adapter.stock_weights(model)
    whole, parts = with_gradients(model), with_gradients(small)
    assert parts
    for path, layer in adapter.factored_layers(small).items():
        reached = {id(x.value) in parts for x in layer.trainable_variables}
        assert reached == {id(stock[names[path]]) in whole}, path


def with_gradients(model):
    """Ids of the weights that the logits depend on."""
    inputs = {name: models.tensor(x) for name, x in random_inputs(model, 2).items()}
    if models.BACKEND == "torch":
        inputs = {name: x.long() for name, x in inputs.items()}
        model(**inputs).logits.square().sum().backward()
        return {id(x) for x in model.parameters() if x.grad is not None}
    import tensorflow as tf

    weights = models.trained_weights(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(inputs).logits ** 2)
    found = zip(weights, tape.gradient(loss, weights), strict=True)
    return {id(weight) for weight, gradient in found if gradient is not None}


def test_the_matrix_of_any_layer_is_multiplied_out():
    dense = keras.layers.Dense(6, name="dense")
    dense.build((None, 8))
    table = keras.layers.Embedding(8, 6)
    table.build()
    for layer, weight in ((dense, dense.kernel), (table, table.embeddings)):
        expected = keras.ops.convert_to_numpy(weight)
        found = keras.ops.convert_to_numpy(multiplied_out(layer))
        np.testing.assert_array_equal(found, expected)
        for mode in ("int8", "int4"):
            copy = copy_layer(layer)
            copy.quantize(mode)
            found = keras.ops.convert_to_numpy(multiplied_out(copy))
            np.testing.assert_allclose(found, expected, atol=0.15)
