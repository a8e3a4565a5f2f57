"""Rounded layers, on whichever backend Keras runs."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

import keras_messi
from keras_messi import RoundingConfig
from keras_messi.layers import RoundedDense, RoundedEmbedding
from keras_messi.layers.numbers.codes import pack_codes
from keras_messi.layers.numbers.levels import from_levels, random_rotation
from keras_messi.layers.sizes import count_own_parameters, stored_bytes
from keras_messi.methods.rounding import stored_size

from .factored import (
    assert_ids_are_treated_as_by_an_embedding,
    fixture_of,
    stored,
)

BACKEND = keras.backend.backend()
# A table of N rows, or the kernel of N units.
N, D = 12, 10
TOKENS = np.array([[0, 3, 11, 4], [7, 7, 5, 9]], dtype="int32")
# bits, block_size, levels, rotation: all pairs of what matters.
FORMS = [
    (1, None, "normal", None),
    (2, 4, "normal", 3),
    (3, 5, "uniform", None),
    (4, 4, "uniform", None),
    (4, None, "normal", 0),
    (8, 128, "uniform", 7),
    (1, 1, "uniform", 5),
]
kind = fixture_of(RoundedDense, RoundedEmbedding)
form = fixture_of(*FORMS)


def new_layer(kind, form=FORMS[1], **arguments):
    shape = (N,) if kind is RoundedDense else (N, D)
    layer = kind(*shape, *form, **arguments)
    layer.build((None, D) if kind is RoundedDense else (None, None))
    return layer


def filled_layer(kind, form=FORMS[1], **arguments):
    """A layer with random weights, its table, an input and what it should compute."""
    layer, rng = new_layer(kind, form, **arguments), np.random.default_rng(0)
    bits, block_size, levels, rotation = form
    codes = rng.integers(2**bits, size=(N, D))
    scales = rng.normal(size=layer.scales.shape).astype("float16")
    table = from_levels(codes, scales, bits, levels, block_size or D)
    store = {"codes": pack_codes(codes, 2**bits), "scales": scales}
    if rotation is not None:
        store["centre"] = rng.normal(size=D).astype("float32")
        table = table @ random_rotation(D, rotation) + store["centre"]
    if kind is RoundedEmbedding:
        layer.load_own_variables(store)
        return layer, table, TOKENS, table[TOKENS]
    store["bias"] = rng.standard_normal(N).astype("float32")
    layer.load_own_variables(store)
    x = rng.standard_normal((3, D)).astype("float32")
    return layer, table, x, x @ table.T + store["bias"]


def array(tensor):
    return ops.convert_to_numpy(tensor)


def model_of(layer, x):
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    return keras.Model(inputs, layer(inputs))


def test_call_multiplies_by_the_matrix(kind, form):
    layer, table, x, expected = filled_layer(kind, form)
    assert_allclose(array(layer(x)), expected, atol=1e-5)
    matrix = layer.kernel if kind is RoundedDense else ops.transpose(layer.embeddings)
    assert_allclose(array(matrix), table.T, atol=1e-6)


def test_axes_between_batch_and_inputs_stay():
    layer, table, x, _ = filled_layer(RoundedDense, activation="relu", use_bias=False)
    y = array(layer(np.stack([x, 2 * x])))
    assert_allclose(y[1], np.maximum(2 * x @ table.T, 0), atol=1e-5)


def test_logits_are_those_of_the_tied_table(form):
    layer, table, *_ = filled_layer(RoundedEmbedding, form, logit_soft_cap=3.0)
    hidden = np.random.default_rng(1).standard_normal((2, 3, D)).astype("float32")
    expected = 3 * np.tanh(hidden @ table.T / 3)
    assert_allclose(array(layer(hidden, reverse=True)), expected, atol=1e-5)


def test_symbolic_shape_and_dtype_are_the_real_ones(kind):
    layer, _, x, expected = filled_layer(kind, dtype="mixed_float16")
    symbolic = model_of(layer, x).outputs[0]
    assert symbolic.shape == (None, *expected.shape[1:])
    assert symbolic.dtype == keras.backend.standardize_dtype(layer(x).dtype)


@pytest.mark.parametrize(
    ("policy", "precision"), [("mixed_float16", 3e-3), ("bfloat16", 3e-2)]
)
def test_half_precision_computes_about_the_same(kind, form, policy, precision):
    layer, table, x, expected = filled_layer(kind, form, dtype=policy)
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    # In mixed precision, Keras has all floats of a layer in one type.
    scales = "float32" if policy == "mixed_float16" else "float16"
    assert layer.scales.dtype == scales
    atol = precision * np.max(np.abs(expected)) * 3
    assert_allclose(array(ops.cast(y, "float32")), expected, atol=atol)
    if kind is RoundedEmbedding:
        hidden = np.random.default_rng(1).standard_normal((2, D)).astype("float32")
        logits = array(ops.cast(layer(hidden, reverse=True), "float32"))
        atol = precision * np.max(np.abs(logits)) * 3
        assert_allclose(logits, hidden @ table.T, atol=atol)


def test_logits_take_another_dtype():
    layer, table, *_ = filled_layer(
        RoundedEmbedding, dtype="bfloat16", reverse_dtype="float32"
    )
    hidden = np.random.default_rng(1).standard_normal((5, D)).astype("float32")
    logits = layer(hidden, reverse=True)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert_allclose(array(logits), hidden @ table.T, atol=1e-5)


@pytest.mark.parametrize("rotation", [None, 2])
@pytest.mark.parametrize("token", [-1, -N, -N - 1, N, 10**6])
def test_ids_out_of_range_do_what_they_do_in_an_embedding(token, rotation):
    form = (8, 4, "uniform", rotation)
    layer, table, *_ = filled_layer(RoundedEmbedding, form)
    assert_ids_are_treated_as_by_an_embedding(layer, table, token, 1e-6)


def test_padding_is_masked_out():
    layer, *_ = filled_layer(RoundedEmbedding, mask_zero=True)
    assert array(layer.compute_mask(TOKENS)).tolist() == (TOKENS != 0).tolist()
    assert new_layer(RoundedEmbedding).compute_mask(TOKENS) is None


def test_a_dense_layer_hands_masks_on():
    words, *_ = filled_layer(RoundedEmbedding, mask_zero=True)
    dense, *_ = filled_layer(RoundedDense)
    y = dense(words(TOKENS))
    assert_array_equal(array(y._keras_mask), TOKENS != 0)


def test_bytes_on_disk_are_those_of_the_formula(kind, form):
    layer, *_ = filled_layer(kind, form)
    store = stored(layer)
    bits, block_size, levels, rotation = form
    assert store["codes"].dtype == np.uint8
    assert store["codes"].nbytes == -(-N * D * bits // 8)
    config = RoundingConfig(bits, block_size, levels, rotation is not None)
    is_dense = kind is RoundedDense
    size = stored_size(*((D, N) if is_dense else (N, D)), config, is_dense)
    assert stored_bytes([layer]) == size + (4 * N if is_dense else 0)
    names = {"codes", "scales"} | ({"centre"} if rotation is not None else set())
    assert set(store) - {"bias"} == names


def test_parameters_are_numbers_however_few_bits_they_take(kind, form):
    layer, *_ = filled_layer(kind, form)
    bias, centre = N * (kind is RoundedDense), D * (form[3] is not None)
    assert layer.num_parameters == N * D + centre + bias
    assert count_own_parameters(layer) == layer.num_parameters
    twin = kind.from_config(layer.get_config())
    assert count_own_parameters(twin) == 0  # it is not built


def test_only_the_bias_is_trained(kind):
    layer, *_ = filled_layer(kind)
    layer.trainable = False
    layer.trainable = True
    names = [weight.name for weight in layer.trainable_weights]
    assert names == (["bias"] if kind is RoundedDense else [])


def test_gradients_pass_through_a_layer_that_is_not_trained():
    layer, _, x, _ = filled_layer(RoundedDense)
    first = keras.layers.Dense(D)
    model = keras.Sequential([keras.Input((D,)), first, layer])
    model.compile("adam", "mse", run_eagerly=BACKEND != "jax")
    before, frozen = array(first.kernel), stored(layer)
    model.train_on_batch(x, np.ones((3, N)))
    assert not np.array_equal(array(first.kernel), before)
    assert not np.array_equal(array(layer.bias), frozen.pop("bias"))
    for name, value in frozen.items():
        assert_array_equal(stored(layer)[name], value)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Models of one layer of each kind and form, each saved and loaded."""
    found, folder = [], tmp_path_factory.mktemp("rounded")
    for kind in (RoundedDense, RoundedEmbedding):
        for i, form in enumerate(FORMS):
            layer, _, x, _ = filled_layer(kind, form)
            model, path = model_of(layer, x), folder / f"{kind.__name__}{i}.keras"
            keras_messi.save_model(model, path)
            found.append((model, keras.saving.load_model(path), x))
    return found


def test_a_file_gives_the_same_bits(files):
    for model, loaded, x in files:
        assert loaded.layers[-1].get_config() == model.layers[-1].get_config()
        assert_array_equal(array(loaded(x)), array(model(x)))
        for one, other in zip(model.weights, loaded.weights, strict=True):
            assert one.dtype == other.dtype
            assert_array_equal(array(one), array(other))


def test_the_config_comes_back(kind, form):
    layer, _, x, _ = filled_layer(kind, form)
    config = layer.get_config()
    names = ("bits", "block_size", "levels", "rotation")
    assert tuple(config[name] for name in names) == form
    assert tuple(getattr(layer, name) for name in names) == form
    twin = kind.from_config(json.loads(json.dumps(config)))
    assert twin.get_config() == config
    twin.build((None, D))
    twin.load_own_variables(stored(layer))
    assert_array_equal(array(twin(x)), array(layer(x)))


def test_arguments_may_be_numpy_integers(kind):
    form = (np.int64(2), np.int64(4), "normal", np.int64(3))
    assert json.dumps(new_layer(kind, form).get_config())


def test_codes_of_other_bits_are_refused(kind):
    layer, *_ = filled_layer(kind, (3, 4, "uniform", None))
    other = new_layer(kind, (4, 4, "uniform", None))
    with pytest.raises(ValueError, match="must hold 120 codes of 4 bits"):
        other.load_own_variables(stored(layer))


BAD_FORMS = [
    ((0, None, "uniform"), "`bits` must be a positive integer.*bits=0"),
    ((9, None, "uniform"), "`bits` must not exceed 8 with levels='uniform'.*bits=9"),
    ((5, None, "normal"), "`bits` must not exceed 4 with levels='normal'.*bits=5"),
    ((2.5, None, "normal"), "`bits` must be a positive integer.*bits=2.5"),
    ((True, None, "normal"), "`bits` must be a positive integer.*bits=True"),
    ((4, None, "x"), r"`levels` must be one of \['uniform', 'normal'\].*levels='x'"),
    ((4, 0, "uniform"), "`block_size` must be a positive integer.*block_size=0"),
    ((4, 2.0, "uniform"), "`block_size` must be a positive integer.*block_size=2.0"),
    ((4, 2, "uniform", -1), "`rotation` must be an integer of at least 0.*rotation=-1"),
    ((4, 2, "uniform", True), "`rotation` must be an integer.*rotation=True"),
]


@pytest.mark.parametrize(("form", "message"), BAD_FORMS)
def test_bad_arguments_are_refused(kind, form, message):
    with pytest.raises(ValueError, match=message):
        new_layer(kind, form)


def test_lora_is_trained_beside_it(kind):
    layer, table, x, expected = filled_layer(kind)
    layer.enable_lora(2, lora_alpha=4)
    assert_allclose(array(layer(x)), expected, atol=1e-5)
    name = "kernel" if kind is RoundedDense else "embeddings"
    a, b = (getattr(layer, f"lora_{name}_{which}") for which in "ab")
    b.assign(np.random.default_rng(2).standard_normal(b.shape))
    matrix = table.T if kind is RoundedDense else table
    matrix = matrix + 2 * array(a) @ array(b)
    assert_allclose(array(getattr(layer, name)), matrix, atol=1e-5)
    names = {weight.name for weight in layer.trainable_weights}
    assert names - {"bias"} == {a.name, b.name}
    with pytest.raises(ValueError, match="`merge_lora` needs"):
        layer.merge_lora()


def test_keras_says_that_it_can_not_quantize_them(kind):
    layer, _, x, expected = filled_layer(kind)
    with pytest.raises(NotImplementedError, match=f"{kind.__name__}.*`quantize`"):
        layer.quantize("int8")
    with pytest.raises(NotImplementedError, match=f"{kind.__name__}.*`dequantize`"):
        layer.dequantize()
    assert_allclose(array(layer(x)), expected, atol=1e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="torch compiles otherwise")
def test_it_can_be_jit_compiled(kind):
    layer, _, x, expected = filled_layer(kind)
    model = model_of(layer, x)
    model.compile(jit_compile=True)
    assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
