"""LoRA: a trained product of two small matrices beside a stored one that is frozen."""

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose, assert_array_equal

import keras_messi
from keras_messi.layers import (
    EntropyCodedDense,
    MessiDense,
    MessiEmbedding,
    MessiEntropyCodedEmbedding,
    MessiPQDense,
    MessiPQEmbedding,
    PQDense,
    PQEmbedding,
    RoundedDense,
    RoundedEmbedding,
)
from keras_messi.layers.dense import StoredDense
from keras_messi.layers.replacement import copy_layer
from keras_messi.layers.sizes import count_own_parameters
from keras_messi.models.keras.folding import fold_permutations

from .factored import drawn, stored

N, D, R, ALPHA = 12, 8, 2, 5
TOKENS = np.array([[0, 3, 11, 4], [7, 7, 5, 9]], dtype="int32")
FACTORS = {"num_clusters": 2, "rank": [1, 4]}
CODES = {"block_size": 4, "num_codewords": 3}
CODED = {"num_clusters": 2, "rank": 2, "block_size": 2, "num_codewords": 3}
# Every kind of layer, and floats, integers and codes in both uses.
CASES = {
    "dense": (MessiDense, FACTORS),
    "embedding": (MessiEmbedding, {**FACTORS, "factors_regularizer": "l2"}),
    "wide": (MessiEmbedding, {**FACTORS, "lookup": "wide", "quantization": "int4"}),
    "int8": (MessiDense, {**FACTORS, "quantization": "int8", "use_bias": False}),
    "one": (MessiEmbedding, {"num_clusters": 1, "rank": 3, "quantization": "int8"}),
    "grouped": (MessiDense, {**FACTORS, "grouped_inputs": True, "activation": "relu"}),
    "outputs": (MessiDense, {**FACTORS, "side": "outputs"}),
    "outputs int4": (
        MessiDense,
        {**FACTORS, "side": "outputs", "quantization": "int4"},
    ),
    "codes": (PQDense, CODES),
    "coded rows": (PQEmbedding, {**CODES, "mask_zero": True}),
    "rounded": (RoundedDense, {"bits": 3, "block_size": 5}),
    "rounded table": (RoundedEmbedding, {"bits": 2, "rotation": 1}),
    "entropy coded": (EntropyCodedDense, {}),
    "entropy coded table": (MessiEntropyCodedEmbedding, FACTORS),
    "coded": (MessiPQDense, {**CODED, "quantization": "int4"}),
    "coded table": (MessiPQEmbedding, CODED),
}


def is_dense(layer):
    return hasattr(layer, "units")


def matrix_of(layer):
    return ops.convert_to_numpy(layer.kernel if is_dense(layer) else layer.embeddings)


def lora_of(layer):
    name = "kernel" if is_dense(layer) else "embeddings"
    pair = getattr(layer, f"lora_{name}_a"), getattr(layer, f"lora_{name}_b")
    return [ops.convert_to_numpy(weight) for weight in pair]


def built(kind, arguments):
    """A layer with random numbers in the place of its integers and routing."""
    dense = issubclass(kind, StoredDense)
    shape = (D,) if dense else (N, D)
    layer = kind(*shape, **arguments)
    layer.build((None, N) if dense else (None, None))
    layer.load_own_variables(drawn(stored(layer)))
    return layer


def adapted(case):
    """A layer with LoRA weights, the matrix of the sum, and inputs."""
    layer = built(*CASES[case])
    matrix = matrix_of(layer)
    layer.enable_lora(R, lora_alpha=ALPHA, b_initializer="he_uniform")
    a, b = lora_of(layer)
    x = np.random.default_rng(1).standard_normal((4, N)).astype("float32")
    return layer, matrix + ALPHA / R * (a @ b), x if is_dense(layer) else TOKENS


def expected_of(layer, matrix, x):
    if not is_dense(layer):
        return matrix[x]
    bias = 0 if layer.bias is None else ops.convert_to_numpy(layer.bias)
    return ops.convert_to_numpy(layer.activation(x @ matrix + bias))


def outputs_of(layer, x, **arguments):
    return ops.convert_to_numpy(layer(x, **arguments))


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def dense():
    return built(*CASES["dense"])


def test_a_layer_computes_with_the_sum(case):
    layer, matrix, x = adapted(case)
    assert_allclose(matrix_of(layer), matrix, atol=1e-5)
    assert_allclose(outputs_of(layer, x), expected_of(layer, matrix, x), atol=1e-4)
    if not is_dense(layer):
        states = np.random.default_rng(2).standard_normal((2, 3, D)).astype("float32")
        logits = outputs_of(layer, states, reverse=True)
        assert_allclose(logits, states @ matrix.T, atol=1e-4)


def test_the_attributes_are_those_of_a_dense_layer_of_keras(dense):
    stock = keras.layers.Dense(D)
    stock.build((None, N))
    before = count_own_parameters(dense)
    for layer in (dense, stock):
        layer.enable_lora(R)
    for name in ("lora_enabled", "lora_rank", "lora_alpha"):
        assert getattr(dense, name) == getattr(stock, name)
        assert dense.get_config().get(name) == stock.get_config().get(name)
    for name in ("lora_kernel_a", "lora_kernel_b"):
        found, expected = getattr(dense, name), getattr(stock, name)
        assert (found.name, found.shape) == (expected.name, expected.shape)
        assert found.dtype == expected.dtype == "float32"
    assert not np.any(dense.lora_kernel_b)
    assert count_own_parameters(dense) == before + R * (N + D) == dense.num_parameters


def test_training_moves_only_the_lora_weights_and_the_bias(case):
    layer, _, x = adapted(case)
    layer.trainable = False
    layer.trainable = True  # which must not thaw the factors
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    before = stored(layer)
    model.train_on_batch(x, np.ones((*x.shape, D) if x is TOKENS else (4, D)))
    after = stored(layer)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"lora_a", "lora_b"} | ({"bias"} & set(before))


def test_the_regularizer_is_that_of_the_trained_weights():
    layer, *_ = adapted("embedding")
    expected = sum(layer.factors_regularizer(weight) for weight in lora_of(layer))
    found = keras.ops.convert_to_numpy(sum(layer.losses))
    assert_allclose(found, keras.ops.convert_to_numpy(expected), rtol=1e-6)


def test_a_copy_of_a_layer_has_its_lora_weights(case):
    layer, _, x = adapted(case)
    copy = copy_layer(layer)
    assert copy.get_config() == layer.get_config()
    names = [[w.name for w in twin.trainable_weights] for twin in (copy, layer)]
    assert names[0] == names[1]
    assert_array_equal(outputs_of(copy, x), outputs_of(layer, x))


@pytest.mark.parametrize("rank", [2, 7])
def test_merged_weights_are_exact_in_factors_of_higher_rank(rank, dense):
    table, x = built(*CASES["embedding"]), np.eye(N, dtype="float32")
    for layer, inputs in ((dense, x), (table, TOKENS)):
        layer.enable_lora(rank, b_initializer="he_uniform")
        before = outputs_of(layer, inputs)
        layer.merge_lora()
        assert_allclose(outputs_of(layer, inputs), before, atol=1e-5)
        assert layer.ranks == [min(1 + rank, D), min(4 + rank, D)]
        assert (layer.lora_enabled, layer.lora_rank) == (False, None)
        assert layer.bases.trainable
        assert copy_layer(layer).get_config() == layer.get_config()


def test_half_precision_is_merged_in_its_dtype():
    layer = built(MessiDense, {**FACTORS, "dtype": "float16"})
    layer.enable_lora(R, b_initializer="he_uniform")
    matrix = matrix_of(layer)
    layer.merge_lora()
    assert layer.bases.dtype == "float16"
    assert_allclose(matrix_of(layer), matrix, atol=2e-2)  # rounded once more


def test_what_has_no_exact_merge_is_refused(dense):
    for layer in (dense, adapted("int8")[0], adapted("codes")[0], adapted("coded")[0]):
        with pytest.raises(ValueError, match=f"`merge_lora`.*'{layer.name}'"):
            layer.merge_lora()


def test_quantizing_leaves_the_lora_weights_and_factors_frozen(dense):
    dense.enable_lora(R, b_initializer="he_uniform")
    pair, update = lora_of(dense), np.matmul(*lora_of(dense))
    dense.quantize("int8")
    integers = matrix_of(dense) - update
    dense.dequantize()
    assert_allclose(matrix_of(dense) - update, integers, atol=1e-5)
    for now, before in zip(lora_of(dense), pair, strict=True):
        assert_array_equal(now, before)
    names = [weight.name for weight in dense.trainable_weights]
    assert names == ["lora_kernel_a", "lora_kernel_b", "bias"]


def test_what_was_stored_without_lora_is_loaded_as_it_is(dense):
    store, matrix = stored(dense), matrix_of(dense)
    dense.enable_lora(R, b_initializer="he_uniform")
    with_lora = stored(dense)
    dense.load_own_variables(store)
    assert_array_equal(matrix_of(dense), matrix)
    assert np.any(dense.lora_kernel_a)  # or b would get no gradient
    with pytest.raises(ValueError, match=r"must have LoRA.*`enable_lora`"):
        built(*CASES["dense"]).load_own_variables(with_lora)


def test_wrong_arguments_are_refused(dense):
    for wrong in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match=f"`rank` must be.*rank={wrong}"):
            dense.enable_lora(wrong)
    for wrong in (0, -2, float("inf"), True, "2"):
        with pytest.raises(ValueError, match=f"`lora_alpha` must be.*{wrong}"):
            dense.enable_lora(2, lora_alpha=wrong)
    with pytest.raises(ValueError, match="`lora_rank` must be.*lora_rank=0"):
        MessiDense(D, lora_rank=0, **FACTORS)
    with pytest.raises(ValueError, match=r"`enable_lora`.*built=False"):
        MessiDense(D, lora_rank=2, **FACTORS).enable_lora(2)
    dense.enable_lora(2)
    with pytest.raises(ValueError, match=r"`enable_lora`.*lora_enabled=True"):
        dense.enable_lora(2)


@pytest.fixture(scope="module")
def trained():
    """A model of all kinds with LoRA, after a step of training, and inputs."""
    table, rounded = built(*CASES["embedding"]), built(*CASES["wide"])
    inputs = keras.Input((4,), dtype="int32")
    x = keras.layers.Flatten()(keras.layers.Add()([table(inputs), rounded(inputs)]))
    for case in ("dense", "int8", "codes", "coded"):
        kind, arguments = CASES[case]
        arguments = {**arguments, "quantization": None} if case == "int8" else arguments
        layer = kind(D, **arguments)
        x = layer(x)
        if case == "int8":
            layer.quantize("int8")
    model = keras.Model(inputs, x)
    for layer in model.layers:
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(R, b_initializer="he_uniform")
    model.compile("adam", "mse", run_eagerly=True)
    model.train_on_batch(TOKENS, np.ones((2, D)))
    return model


def ours(model):
    return [layer for layer in model.layers if hasattr(layer, "enable_lora")]


def test_training_goes_on_from_a_file(trained, tmp_path):
    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_array_equal(outputs_of(loaded, TOKENS), outputs_of(trained, TOKENS))
    assert all(layer.lora_enabled for layer in ours(loaded))
    assert loaded.optimizer.iterations == 1
    before = list(map(stored, ours(loaded)))
    loaded.train_on_batch(TOKENS, np.ones((2, D)))
    for layer, store in zip(ours(loaded), before, strict=True):
        for name, value in stored(layer).items():
            trains = name in ("lora_a", "lora_b", "bias")
            assert trains != np.array_equal(value, store[name]), (layer.name, name)


def test_save_model_merges_what_has_an_exact_merge(trained, tmp_path):
    before = outputs_of(trained, TOKENS)
    keras_messi.save_model(trained, tmp_path / "model.keras")
    loaded = keras_messi.load_model(tmp_path / "model.keras")
    assert_allclose(outputs_of(loaded, TOKENS), before, rtol=1e-4, atol=1e-4)
    merged = [layer for layer in ours(loaded) if not layer.lora_enabled]
    assert [layer.rank for layer in merged] == [[1 + R, 4 + R]] * 2
    assert [type(layer) for layer in merged] == [MessiEmbedding, MessiDense]
    assert sum(layer.lora_enabled for layer in ours(loaded)) == 4
    assert all(layer.lora_enabled for layer in ours(trained))
    assert_array_equal(outputs_of(trained, TOKENS), before)


def test_models_are_compressed_and_quantized_around_lora():
    inputs = keras.Input((N,))
    first = keras.layers.Dense(N, activation="relu")
    adapted_layer = MessiDense(D, num_clusters=2, rank=2)
    last = MessiDense(D, num_clusters=2, rank=2)
    model = keras.Model(inputs, last(adapted_layer(first(inputs))))
    assert len(fold_permutations(model)[1]) == 2
    adapted_layer.enable_lora(R, b_initializer="he_uniform")
    copy, folded = fold_permutations(model)
    assert (copy is model, folded) == (True, [])
    x = np.random.default_rng(0).standard_normal((3, N)).astype("float32")
    small = keras_messi.quantize(model, "int8")
    assert [layer.quantization for layer in small.layers[2:]] == [None, "int8"]
    assert_allclose(outputs_of(small, x), outputs_of(model, x), atol=0.1)
    with pytest.raises(ValueError, match="`filters` must match"):
        keras_messi.quantize(model, "int8", adapted_layer.name)
