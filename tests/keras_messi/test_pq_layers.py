"""Both product-quantized layers, on whichever backend Keras runs."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

import keras_messi
from keras_messi.layers import PQDense, PQEmbedding
from keras_messi.layers.numbers.codes import pack_codes
from tests import reference

from .factored import (
    assert_ids_are_treated_as_by_an_embedding,
    fixture_of,
    gradients_of,
    stored,
)

BACKEND = keras.backend.backend()
# A matrix of N rows, in blocks of SIZE numbers.
N, D, SIZE = 12, 24, 4
TOKENS = np.array([[0, 3, 11, 4, 10, 2, 7], [7, 7, 5, 9, 8, 1, 6]], dtype="int32")
# num_codewords, num_codebooks
SPLITS = [(5, 1), (5, 2), (3, 6), (300, 1), (1, 1)]


kind = fixture_of(PQDense, PQEmbedding)
split = fixture_of(*SPLITS)


def new_layer(kind, split=(5, 2), block_size=SIZE, **arguments):
    shape = (N,) if kind is PQDense else (N, D)
    layer = kind(*shape, block_size, *split, **arguments)
    layer.build((None, D) if kind is PQDense else (None, None))
    return layer


def filled_layer(kind, split=(5, 2), **arguments):
    """A layer with random weights, its matrix, an input and what it should compute."""
    layer = new_layer(kind, split, **arguments)
    rng = np.random.default_rng(0)
    codes = rng.integers(split[0], size=layer.codes.shape)
    codebooks = rng.standard_normal(layer.codebooks.shape).astype("float32")
    store = {"codebooks": codebooks, "codes": pack_codes(codes, split[0])}
    bias = rng.standard_normal(N).astype("float32")
    layer.load_own_variables({**store, "bias": bias})
    matrix = reference.decoded(codebooks, codes)
    if kind is PQEmbedding:
        return layer, matrix, TOKENS, matrix[TOKENS]
    x = rng.standard_normal((7, D)).astype("float32")
    return layer, matrix, x, x @ matrix.T + bias


def array(tensor):
    return ops.convert_to_numpy(tensor)


def codes_of(layer):
    return array(layer.codes).astype(int)


def test_call_multiplies_by_the_matrix(kind, split):
    layer, matrix, x, expected = filled_layer(kind, split)
    assert_allclose(array(layer(x)), expected, atol=1e-5)
    dense = layer.kernel if kind is PQDense else ops.transpose(layer.embeddings)
    assert_allclose(array(dense), matrix.T, atol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (2,), (1, 2), (3,), (2, 3), (0,)])
def test_tables_of_products_change_no_value_and_no_gradient(split, shape):
    layer, matrix, _, _ = filled_layer(PQDense, split)
    x = np.random.default_rng(1).standard_normal((*shape, D)).astype("float32")
    y = array(layer(x))
    assert_allclose(y, x @ matrix.T + array(layer.bias), atol=1e-5)
    upstream = np.random.default_rng(2).standard_normal(y.shape).astype("float32")
    of_matrix = upstream.reshape(-1, N).T @ x.reshape(-1, D)
    check_gradient(layer, x, upstream, of_matrix)


def check_gradient(layer, x, upstream, of_matrix, **arguments):
    (found,) = gradients_of(layer, [layer.codebooks], x, upstream, **arguments)
    codebooks = array(layer.codebooks)
    expected = reference.codebooks_gradient(of_matrix, codes_of(layer), codebooks)
    assert_allclose(found, expected, atol=5e-6)


def test_gradient_of_a_codeword_is_the_mean_over_its_uses(split):
    layer, _, tokens, y = filled_layer(PQEmbedding, split)
    upstream = np.random.default_rng(2).standard_normal(y.shape).astype("float32")
    of_matrix = np.zeros((N, D))
    np.add.at(of_matrix, tokens, upstream)
    check_gradient(layer, tokens, upstream, of_matrix)


@pytest.mark.parametrize("rows", [(2,), (2, 3)])
def test_logits_are_those_of_the_tied_table(split, rows):
    layer, matrix, _, _ = filled_layer(PQEmbedding, split)
    hidden = np.random.default_rng(1).standard_normal((*rows, D)).astype("float32")
    logits = array(layer(hidden, reverse=True))
    assert_allclose(logits, hidden @ matrix.T, atol=1e-5)
    upstream = np.random.default_rng(2).standard_normal(logits.shape).astype("float32")
    of_matrix = upstream.reshape(-1, N).T @ hidden.reshape(-1, D)
    check_gradient(layer, hidden, upstream, of_matrix, reverse=True)


def test_logits_take_another_dtype_and_a_cap():
    layer, matrix, _, _ = filled_layer(
        PQEmbedding, dtype="mixed_bfloat16", reverse_dtype="float32", logit_soft_cap=3.0
    )
    hidden = np.random.default_rng(1).standard_normal((5, D)).astype("float32")
    logits = layer(hidden, reverse=True)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert_allclose(array(logits), 3 * np.tanh(hidden @ matrix.T / 3), atol=1e-5)


def test_fresh_rows_are_told_apart(kind):
    codes = codes_of(new_layer(kind, (2, 1)))
    assert len(np.unique(codes, axis=0)) == N


def test_training_moves_codebooks_and_not_codes(kind, split):
    layer, _, x, _ = filled_layer(kind, split)
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    codebooks, codes = array(layer.codebooks), codes_of(layer)
    target = np.zeros((len(x), *model.output_shape[1:]))
    losses = model.fit(x, target, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert not np.array_equal(array(layer.codebooks), codebooks)
    assert np.array_equal(codes_of(layer), codes)


@pytest.mark.skipif(BACKEND == "torch", reason="torch compiles otherwise")
def test_it_can_be_jit_compiled(kind):
    layer, _, x, expected = filled_layer(kind)
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    model = keras.Model(inputs, layer(inputs))
    model.compile(jit_compile=True)
    assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_symbolic_shape_is_the_real_one(kind, split):
    layer, _, x, expected = filled_layer(kind, split)
    symbolic = layer(keras.KerasTensor(x.shape, dtype=str(x.dtype)))
    assert symbolic.shape == expected.shape == layer.compute_output_shape(x.shape)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_computes_low_and_stores_high(kind, policy):
    layer, _, x, expected = filled_layer(kind, dtype=policy)
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
    assert str(layer.codebooks.dtype) == "float32"
    # bfloat16 keeps eight bits of the mantissa; the sums have up to 24 terms.
    atol = 0.03 * np.abs(expected).max()
    assert_allclose(array(ops.cast(y, "float32")), expected, atol=atol)


def test_only_codebooks_and_packed_codes_are_stored(kind, split):
    layer, *_ = filled_layer(kind, split)
    store = stored(layer)
    bits = {5: 3, 3: 2, 300: 9, 1: 1}[split[0]]
    assert store["codes"].dtype == np.uint8
    assert store["codes"].nbytes == -(-N * D // SIZE * bits // 8)
    assert set(store) - {"bias"} == {"codebooks", "codes"}
    numbers = split[0] * split[1] * SIZE + (N if kind is PQDense else 0)
    assert layer.num_parameters == numbers
    assert sum(np.prod(w.shape) for w in layer.trainable_weights) == numbers


def test_what_is_stored_can_be_loaded(kind, split):
    layer, _, x, _ = filled_layer(kind, split)
    twin = kind.from_config(json.loads(json.dumps(layer.get_config())))
    twin.build((None, D))
    twin.load_own_variables(stored(layer))
    assert np.array_equal(array(twin(x)), array(layer(x)))
    assert np.array_equal(array(twin.uses), array(layer.uses))
    uses = reference.uses(codes_of(layer), split[1], split[0])
    assert np.array_equal(array(twin.uses), np.maximum(uses, 1))


SCRIPT = """
import sys, numpy as np, keras_messi
model = keras_messi.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
"""


@pytest.mark.slow
def test_a_file_gives_the_same_bits_in_a_fresh_process(kind, tmp_path):
    layer, _, x, _ = filled_layer(kind)
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    model = keras.Model(inputs, layer(inputs))
    files = [str(tmp_path / name) for name in ("model.keras", "x.npy", "y.npy")]
    keras_messi.save_model(model, files[0])
    np.save(files[1], x)
    subprocess.run([sys.executable, "-c", SCRIPT, *files], check=True)
    assert np.array_equal(np.load(files[2]), model.predict(x, verbose=0))


def test_codebooks_that_training_made_nan_are_not_saved(kind, tmp_path):
    layer, _, x, _ = filled_layer(kind, name="broken")
    layer.codebooks.assign(layer.codebooks * float("nan"))
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    model = keras.Model(inputs, layer(inputs))
    with pytest.raises(ValueError, match="codebooks of layer 'broken' must be finite"):
        keras_messi.save_model(model, tmp_path / "model.keras")


def test_codes_out_of_range_are_refused(kind):
    layer = new_layer(kind, (5, 2))
    store = {**stored(layer), "codes": pack_codes(np.full((N, D // SIZE), 6), 5)}
    with pytest.raises(ValueError, match=r"codes below num_codewords=5.*up to 6"):
        layer.load_own_variables(store)


BAD_ARGUMENTS = [
    ({"block_size": 5}, r"`block_size` must divide .* 24: one of \[1, 2, 3, 4, 6, 8"),
    ({"block_size": 0}, "`block_size` must be a positive integer"),
    ({"split": (5, 4)}, r"`num_codebooks` must divide .* 6: one of \[1, 2, 3, 6\]"),
    ({"split": (65_537, 1)}, "`num_codewords` must not exceed 65,536"),
    ({"split": (2.5, 1)}, "`num_codewords` must be a positive integer"),
    ({"split": (5, 0)}, "`num_codebooks` must be a positive integer"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        new_layer(kind, **arguments)


@pytest.mark.parametrize("token", [-1, -N, -N - 1, N, 10**6])
def test_ids_out_of_range_do_what_they_do_in_an_embedding(token):
    layer, matrix, *_ = filled_layer(PQEmbedding)
    assert_ids_are_treated_as_by_an_embedding(layer, matrix, token, 1e-6)


def test_padding_is_masked_out():
    layer, *_ = filled_layer(PQEmbedding, mask_zero=True)
    assert array(layer.compute_mask(TOKENS)).tolist() == (TOKENS != 0).tolist()


def test_keras_says_that_it_can_not_quantize_them(kind):
    layer, _, x, expected = filled_layer(kind)
    with pytest.raises(NotImplementedError, match=kind.__name__):
        layer.quantize("int8")
    assert_allclose(array(layer(x)), expected, atol=1e-5)
