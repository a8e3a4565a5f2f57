"""Both layers, through the same checks, on whichever backend Keras runs."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

from keras_messi.layers import MessiDense, MessiEmbedding

from .factored import (
    SPLITS,
    TOKENS,
    D,
    N,
    filled_layer,
    fixture_of,
    gradients,
    gradients_of_factors,
    random_factors,
    stored,
)

kind = fixture_of(MessiDense, MessiEmbedding)
split = fixture_of(*SPLITS)


def test_call_multiplies_by_the_matrix(kind, split):
    layer, matrix, x, expected = filled_layer(kind, split)
    assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-5)
    dense = layer.kernel if kind is MessiDense else layer.embeddings
    assert_allclose(ops.convert_to_numpy(dense), matrix, atol=1e-6)


def test_stored_numbers_are_those_of_the_formula(kind, split):
    layer, *_ = filled_layer(kind, split)
    sizes = layer.cluster_sizes
    numbers = sum(j * (n + D) for j, n in zip(layer.ranks, sizes, strict=True))
    numbers += D if kind is MessiDense else 0
    assert sum(np.prod(w.shape) for w in layer.trainable_weights) == numbers
    ids = N if layer.num_clusters > 1 else 0
    assert layer.count_params() == numbers + ids


def test_what_is_stored_can_be_loaded(kind, split):
    layer, _, x, _ = filled_layer(kind, split)
    store = {}
    layer.save_own_variables(store)
    if layer.num_clusters > 1:
        assert store["assignments"].dtype == np.uint8
        assert np.array_equal(store["assignments"], layer.assignments)
    twin = kind.from_config(layer.get_config())
    twin.build((None, N))
    twin.load_own_variables(
        {name: ops.convert_to_numpy(value) for name, value in store.items()}
    )
    assert np.array_equal(ops.convert_to_numpy(twin(x)), ops.convert_to_numpy(layer(x)))


def test_config_survives_json(kind, split):
    layer, *_ = filled_layer(kind, split, factors_regularizer="l2", name="small")
    config = layer.get_config()
    twin = kind.from_config(json.loads(json.dumps(config)))
    assert twin.get_config() == config


def test_ten_steps_of_fit_lower_the_loss_and_keep_the_clusters(kind, split):
    layer, _, x, _ = filled_layer(kind, split)
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    target = np.zeros((len(x), *model.output_shape[1:]))
    before = [ops.convert_to_numpy(w) for w in layer.trainable_weights]
    assignments = layer.assignments
    losses = model.fit(x, target, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert np.array_equal(layer.assignments, assignments)
    for weight, old in zip(layer.trainable_weights, before, strict=True):
        assert not np.array_equal(ops.convert_to_numpy(weight), old)


def test_symbolic_shape_is_the_real_one(kind, split):
    layer, _, x, expected = filled_layer(kind, split)
    symbolic = layer(keras.KerasTensor(x.shape, dtype=str(x.dtype)))
    assert symbolic.shape == expected.shape == layer.compute_output_shape(x.shape)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_computes_low_and_stores_high(kind, split, policy):
    layer, _, x, expected = filled_layer(kind, split, dtype=policy)
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
    assert {str(w.dtype) for w in layer.trainable_weights} == {"float32"}
    y = ops.convert_to_numpy(ops.cast(y, "float32"))
    # bfloat16 keeps eight bits of the mantissa; the sums have up to twelve terms.
    assert_allclose(y, expected, atol=0.03 * np.abs(expected).max())


def test_a_fresh_layer_deals_the_rows_out_evenly(kind):
    shape = (D,) if kind is MessiDense else (7, D)
    layer = kind(*shape, num_clusters=3, rank=2)
    layer.build((None, 7))
    assert layer.cluster_sizes == [3, 2, 2]
    assert layer.assignments.tolist() == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 3)])
def test_gradients_of_a_dense_are_those_of_its_kernel(split, shape):
    layer, matrix, _, _ = filled_layer(MessiDense, split)
    x = np.random.default_rng(5).standard_normal((*shape, N)).astype("float32")
    y = ops.convert_to_numpy(layer(x))
    assert_allclose(y, x @ matrix + ops.convert_to_numpy(layer.bias), atol=1e-5)
    upstream = np.random.default_rng(6).standard_normal(y.shape).astype("float32")
    expected = gradients_of_factors(layer, x.reshape(-1, N).T @ upstream.reshape(-1, D))
    for ours, theirs in zip(gradients(layer, x, upstream), expected, strict=True):
        assert_allclose(ours, theirs, atol=2e-5)


def test_dense_has_the_shape_of_its_inputs_where_it_is_unknown():
    layer, matrix, _, _ = filled_layer(MessiDense, (3, 2, None), use_bias=False)
    inputs = keras.Input((None, N))
    outputs = layer(keras.layers.Dropout(0.1)(inputs))
    assert outputs.shape == (None, None, D)
    x = np.ones((2, 5, N), "float32")
    found = keras.Model(inputs, outputs).predict(x, verbose=0)
    assert_allclose(found, x @ matrix, atol=1e-5)


def test_grouped_inputs_need_no_routing(split):
    layer, matrix, x, expected = filled_layer(MessiDense, split)
    order = np.argsort(layer.assignments, kind="stable")
    grouped = MessiDense.from_config({**layer.get_config(), "grouped_inputs": True})
    grouped.build((None, N))
    grouped.load_own_variables(stored(layer))
    assert len(grouped.non_trainable_weights) == 0
    assert "assignments" not in stored(grouped)
    assert np.array_equal(grouped.assignments, layer.assignments[order])
    assert_allclose(ops.convert_to_numpy(grouped.kernel), matrix[order], atol=1e-6)
    assert_allclose(ops.convert_to_numpy(grouped(x[:, order])), expected, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch has no XLA")
def test_dense_compiles_under_xla(split):
    layer, _, x, expected = filled_layer(MessiDense, split)
    inputs = keras.Input((N,))
    model = keras.Model(inputs, layer(inputs))
    model.compile(jit_compile=True)
    assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_dense_takes_any_leading_axes_activation_and_no_bias():
    layer, matrix, _, _ = filled_layer(
        MessiDense, (3, 2, None), activation="relu", use_bias=False
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 4, N)).astype("float32")
    y = ops.convert_to_numpy(layer(x))
    assert_allclose(y, np.maximum(x @ matrix, 0), atol=1e-5)
    assert layer.bias is None


def test_regularizers_add_to_the_loss():
    layer, _, x, _ = filled_layer(
        MessiDense, (2, 2, None), factors_regularizer=keras.regularizers.L2(0.5)
    )
    layer(x)
    squares = sum(
        np.sum(ops.convert_to_numpy(w) ** 2) for w in (*layer.coordinates, layer.bases)
    )
    total = sum(float(ops.convert_to_numpy(loss)) for loss in layer.losses)
    assert total == pytest.approx(0.5 * squares, rel=1e-5)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32"])
def test_embedding_takes_any_type_of_tokens(dtype):
    layer, matrix, tokens, _ = filled_layer(MessiEmbedding, (3, 2, None))
    y = ops.convert_to_numpy(layer(tokens.astype(dtype)))
    assert_allclose(y, matrix[tokens], atol=1e-5)


def test_embedding_masks_zeros_if_asked():
    layer, *_ = filled_layer(MessiEmbedding, (2, 2, None), mask_zero=True)
    mask = ops.convert_to_numpy(layer.compute_mask(TOKENS))
    assert np.array_equal(mask, TOKENS != 0)
    assert MessiEmbedding(N, D, 2, 2).compute_mask(TOKENS) is None


def test_albert_table_has_the_size_that_the_paper_says():
    layer = MessiEmbedding(30000, 128, num_clusters=7, rank=125)
    layer.build()
    assert sum(np.prod(w.shape) for w in layer.trainable_weights) == 3_862_000
    assert 30000 * 128 == 3_840_000


@pytest.mark.parametrize(
    ("k", "rank", "numbers"), [(1, 4, 120), (2, 3, 120)], ids=["figure-2", "figure-3"]
)
def test_figures_1_to_3_of_the_paper(k, rank, numbers):
    layer = MessiEmbedding(20, 10, num_clusters=k, rank=rank)
    layer.build()
    assert keras.layers.Embedding(20, 10).input_dim * 10 == 200  # Figure 1
    assert sum(np.prod(w.shape) for w in layer.trainable_weights) == numbers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "`units` must be a positive integer"),
        ({"num_clusters": 0}, "`num_clusters` must be a positive integer"),
        ({"rank": 0}, "`rank` must be a positive integer"),
        ({"rank": [1, 2, 3]}, "`rank` must have one entry per cluster, num_clusters=2"),
        ({"rank": 7}, "`rank` must not exceed the width of the matrix, 6"),
        ({"num_clusters": 13}, "`num_clusters` must not exceed the number of rows"),
        ({"cluster_sizes": [6, 5]}, r"must sum to the number of rows .* 12. Received"),
        ({"cluster_sizes": [12, 0]}, "`cluster_sizes` must be a positive integer"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MessiDense(**{"units": D, "num_clusters": 2, "rank": 2, **arguments}).build(
            (None, N)
        )


def test_stored_clusters_of_other_sizes_are_refused():
    layer, *_ = filled_layer(MessiEmbedding, (2, 2, [6, 6]))
    store, _ = random_factors(layer)
    store["assignments"] = np.repeat([0, 1], [5, 7])
    with pytest.raises(ValueError, match=r"\[6, 6\]. The stored ones have .* \[5, 7\]"):
        layer.load_own_variables(store)
