"""The look-up paths and the logits of MessiEmbedding, on whichever backend runs."""

import threading

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

from keras_messi.layers import MessiEmbedding, static_lookup

from .factored import (
    SPLITS,
    TOKENS,
    D,
    N,
    assert_ids_are_treated_as_by_an_embedding,
    filled_layer,
    gradients,
    gradients_of_factors,
    stored,
)

BACKEND = keras.backend.backend()
only_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow only")
only_torch = pytest.mark.skipif(BACKEND != "torch", reason="torch only")
LOOKUPS = ("auto",) if BACKEND == "jax" else ("auto", "wide")  # the same on JAX
UNEVEN = (3, [1, 2, 3], [5, 3, 4])


def twin_of(layer, **arguments):
    """The same factors under other arguments."""
    twin = MessiEmbedding.from_config({**layer.get_config(), **arguments})
    twin.build()
    twin.load_own_variables(stored(layer))
    return twin


def tokens_of_one_cluster(layer):
    return np.flatnonzero(layer.assignments == 0)[[0, 0, -1]]


BATCHES = {
    "every token": lambda layer: TOKENS,
    "one token": lambda layer: np.array(3),
    "no token": lambda layer: np.zeros((0, 7), "int32"),
    "four axes": lambda layer: np.arange(24).reshape(1, 2, 3, 4) % N,
    "one cluster": tokens_of_one_cluster,
    "int64": lambda layer: TOKENS.astype("int64"),
    "uint16": lambda layer: TOKENS.astype("uint16"),
}


@pytest.fixture(params=SPLITS, ids=str)
def layer(request):
    return filled_layer(MessiEmbedding, request.param)[0]


def matrix_of(layer):
    return ops.convert_to_numpy(layer.embeddings)


@pytest.mark.parametrize("lookup", LOOKUPS)
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_values_and_gradients_are_those_of_the_table(layer, batch, lookup):
    layer = twin_of(layer, lookup=lookup)
    tokens = batch(layer)
    y = ops.convert_to_numpy(layer(tokens))
    assert_allclose(y, matrix_of(layer)[tokens], atol=1e-6)
    upstream = np.random.default_rng(2).standard_normal(y.shape).astype("float32")
    of_matrix = np.zeros((N, D))
    np.add.at(of_matrix, tokens, upstream)
    expected = gradients_of_factors(layer, of_matrix)
    for ours, theirs in zip(gradients(layer, tokens, upstream), expected, strict=True):
        assert_allclose(ours, theirs, atol=5e-6)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has one path")
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_paths_agree(layer, policy):
    layer = twin_of(layer, dtype=policy)
    wide = twin_of(layer, lookup="wide")
    # A sum over zeros beside the own basis may be rounded elsewhere in 16 bits.
    tolerance = 1e-6 if policy == "float32" else 0.05
    ours, theirs = (
        ops.convert_to_numpy(ops.cast(one(TOKENS), "float32")) for one in (layer, wide)
    )
    assert_allclose(ours, theirs, atol=tolerance)
    upstream = np.ones(ours.shape, layer.compute_dtype.replace("bfloat16", "float32"))
    upstream = ops.cast(upstream, layer.compute_dtype)
    for one, other in zip(
        gradients(layer, TOKENS, upstream),
        gradients(wide, TOKENS, upstream),
        strict=True,
    ):
        assert one.dtype == np.float32
        assert_allclose(one, other, atol=tolerance)


@pytest.mark.parametrize("lookup", LOOKUPS)
@pytest.mark.parametrize("token", [-1, -N, -N - 1, N, 10**6])
def test_ids_out_of_range_do_what_they_do_in_an_embedding(layer, lookup, token):
    layer = twin_of(layer, lookup=lookup)
    assert_ids_are_treated_as_by_an_embedding(layer, matrix_of(layer), token, 1e-6)


def test_inside_a_layer_whose_shape_keras_has_to_find_out():
    class Around(keras.layers.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, tokens):
            return self.inner(tokens) * 2

    inner = filled_layer(MessiEmbedding, UNEVEN)[0]
    inputs = keras.Input((None,), dtype="int32")
    model = keras.Model(inputs, Around(inner)(inputs))
    assert model.output_shape == (None, None, D)
    y = model.predict(TOKENS, verbose=0)
    assert_allclose(y, 2 * matrix_of(inner)[TOKENS], atol=1e-5)


def test_unknown_lookup_is_refused():
    with pytest.raises(ValueError, match='`lookup` must be "auto" or "wide".*narrow'):
        MessiEmbedding(N, D, 2, 2, lookup="narrow")


def operations(layer):
    """Names of the TensorFlow operations of a look-up traced now."""
    import tensorflow as tf

    specification = tf.TensorSpec((None, None), tf.int32)
    graph = tf.function(lambda tokens: layer(tokens)).get_concrete_function(
        specification
    )
    return {operation.type for operation in graph.graph.get_operations()}


@only_tensorflow
def test_static_lookup_holds_inside_and_in_its_thread_only():
    layer = filled_layer(MessiEmbedding, UNEVEN)[0]
    assert "Unique" in operations(layer)
    with static_lookup():
        assert "Unique" not in operations(layer)
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(operations(layer)))
        thread.start()
        thread.join()
        assert "Unique" in elsewhere[0]
    assert "Unique" in operations(layer)


@only_tensorflow
def test_static_lookup_ends_with_an_error():
    with pytest.raises(KeyError), static_lookup():
        raise KeyError
    assert "Unique" in operations(filled_layer(MessiEmbedding, UNEVEN)[0])


@only_tensorflow
def test_wide_lookup_compiles_under_xla(layer):
    import tensorflow as tf

    wide = twin_of(layer, lookup="wide")
    compiled = tf.function(lambda tokens: wide(tokens), jit_compile=True)
    assert_allclose(compiled(tf.constant(TOKENS)), layer(TOKENS), atol=1e-6)
    assert wide.supports_jit
    assert layer.supports_jit == (layer.num_clusters == 1)


@only_torch
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_torch_compile(layer):
    import torch

    compiled = torch.compile(layer, backend="eager")
    tokens = torch.tensor(TOKENS)
    assert_allclose(
        ops.convert_to_numpy(compiled(tokens)), matrix_of(layer)[TOKENS], atol=1e-6
    )


@only_torch
def test_static_lookup_is_exported_for_any_number_of_tokens(layer):
    import torch

    any_shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    with static_lookup():
        program = torch.export.export(
            layer, (torch.tensor(TOKENS),), dynamic_shapes=((any_shape,),)
        )
    tokens = np.tile(TOKENS, (2, 3))
    found = program.module()(torch.tensor(tokens))
    assert_allclose(ops.convert_to_numpy(found), matrix_of(layer)[tokens], atol=1e-6)


@pytest.mark.parametrize("lookup", LOOKUPS)
@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_mask_reaches_the_next_layer(layer, lookup, dtype):
    layer = twin_of(layer, lookup=lookup, mask_zero=True)
    inputs = keras.Input((7,), dtype=dtype)
    pooled = keras.layers.GlobalAveragePooling1D()(layer(inputs))
    found = keras.Model(inputs, pooled).predict(TOKENS.astype(dtype), verbose=0)
    rows, mask = matrix_of(layer)[TOKENS], TOKENS != 0
    expected = [row[kept].mean(axis=0) for row, kept in zip(rows, mask, strict=True)]
    assert_allclose(found, expected, atol=1e-6)


def hidden_states(*shape):
    return np.random.default_rng(3).standard_normal((*shape, D)).astype("float32")


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 1, 3), (0, 3)])
def test_logits_and_their_gradients_are_those_of_the_table(layer, shape):
    hidden = hidden_states(*shape)
    y = ops.convert_to_numpy(layer(hidden, reverse=True))
    assert_allclose(y, hidden @ matrix_of(layer).T, atol=1e-5)
    upstream = np.random.default_rng(4).standard_normal(y.shape).astype("float32")
    of_matrix = upstream.reshape(-1, N).T @ hidden.reshape(-1, D)
    for ours, theirs in zip(
        gradients(layer, hidden, upstream, reverse=True),
        gradients_of_factors(layer, of_matrix),
        strict=True,
    ):
        assert_allclose(ours, theirs, atol=2e-5)


def test_tied_model_trains_and_has_the_right_shapes(layer):
    inputs = keras.Input((None,), dtype="int32")
    logits = layer(keras.layers.Dense(D)(layer(inputs)), reverse=True)
    assert logits.shape == (None, None, N)
    model = keras.Model(inputs, logits)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = model.fit(TOKENS, TOKENS, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert sum(layer is other for other in model.layers) == 1


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 0.03)]
)
def test_logits_stand_in_for_a_reversible_embedding(policy, tolerance):
    arguments = {"mask_zero": True, "logit_soft_cap": 2.0, "reverse_dtype": "float32"}
    layer = filled_layer(MessiEmbedding, UNEVEN, dtype=policy, **arguments)[0]
    stock = keras.layers.ReversibleEmbedding(N, D, dtype=policy, **arguments)
    stock.build()
    stock.set_weights([matrix_of(layer)])
    hidden = hidden_states(2, 3)
    ours, theirs = layer(hidden, reverse=True), stock(hidden, reverse=True)
    assert keras.backend.standardize_dtype(ours.dtype) == "float32"
    ours, theirs = ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs)
    assert_allclose(ours, theirs, atol=tolerance)
    symbolic = layer(keras.KerasTensor((2, 3, D)), reverse=True)
    assert (symbolic.shape, symbolic.dtype) == ((2, 3, N), "float32")
    assert layer.compute_output_shape((2, 3, D), reverse=True) == (2, 3, N)


def test_logits_are_not_masked_where_a_hidden_number_is_zero():
    layer = filled_layer(MessiEmbedding, UNEVEN, mask_zero=True)[0]
    logits = layer(np.zeros((2, 3, D), "float32"), reverse=True)
    assert getattr(logits, "_keras_mask", None) is None


def test_building_twice_adds_no_weights():
    layer = filled_layer(MessiEmbedding, UNEVEN)[0]
    layer.build((None, 3))
    assert len(layer.weights) == 5
