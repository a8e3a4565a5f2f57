"""Outputs clustered, not inputs: the layer, its factors, what `compress` does."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

from keras_messi import (
    EntropyCodingConfig,
    MessiConfig,
    PQConfig,
    RoundingConfig,
    compress,
)
from keras_messi.layers import MessiDense
from keras_messi.methods.matrix import matrix_of
from keras_messi.methods.subspaces.sides import factors_of, refitted
from tests import reference
from tests.keras_messi import models
from tests.reference import relative_error

from .factored import (
    SPLITS,
    drawn,
    fixture_of,
    gradients,
    gradients_of_factors,
    stored,
)

N, D = 6, 12  # the outputs are those that SPLITS clusters
FORMS = [None, "int8", RoundingConfig(4), PQConfig(2, 64), EntropyCodingConfig(4)]

split = fixture_of(*SPLITS)


def filled_layer(split, **arguments):
    """A built layer with random factors, and its kernel from these."""
    num_clusters, rank, sizes = split
    layer = MessiDense(D, num_clusters, rank, sizes, side="outputs", **arguments)
    layer.build((None, N))
    layer.load_own_variables(drawn(stored(layer)))
    return layer


def outputs(layer, x):
    return ops.convert_to_numpy(layer(x))


def kernel_of(layer):
    """Column by column, from what is stored."""
    store, starts = stored(layer), np.cumsum([0, *layer.ranks])
    kernel, position = np.zeros((N, D), "float32"), [0] * layer.num_clusters
    for output, c in enumerate(layer.assignments):
        row = store[f"coordinates_{c}"][position[c]]
        kernel[:, output] = row @ store["bases"][starts[c] : starts[c + 1]]
        position[c] += 1
    return kernel


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 3)])
def test_the_layer_multiplies_by_its_kernel(split, shape):
    layer = filled_layer(split)
    kernel = kernel_of(layer)
    x = np.random.default_rng(0).standard_normal((*shape, N)).astype("float32")
    bias = ops.convert_to_numpy(layer.bias)
    assert_allclose(ops.convert_to_numpy(layer(x)), x @ kernel + bias, atol=1e-5)
    assert_allclose(ops.convert_to_numpy(layer.kernel), kernel, atol=1e-5)


def test_stored_numbers_are_those_of_the_formula(split):
    layer = filled_layer(split)
    sizes = zip(layer.ranks, layer.cluster_sizes, strict=True)
    assert layer.num_parameters == sum(j * (d + N) for j, d in sizes) + D
    assert sum(layer.cluster_sizes) == len(layer.assignments) == D


@pytest.mark.parametrize("quantization", [None, "int8", "int4"])
def test_config_and_weights_make_the_same_layer(split, quantization):
    layer = filled_layer(split, quantization=quantization)
    twin = MessiDense.from_config(json.loads(json.dumps(layer.get_config())))
    twin.build((None, N))
    twin.load_own_variables(stored(layer))
    assert twin.side == "outputs"
    assert np.array_equal(twin.assignments, layer.assignments)
    x = np.ones((2, N), "float32")
    assert np.array_equal(outputs(twin, x), outputs(layer, x))


def test_the_config_of_clustered_inputs_is_what_it_was():
    assert "side" not in MessiDense(D, 2, 3).get_config()


def test_gradients_are_those_of_the_factors(split):
    layer = filled_layer(split, use_bias=False)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, N)).astype("float32")
    upstream = rng.standard_normal((5, D)).astype("float32")
    wanted = gradients_of_factors(layer, upstream.T @ x)  # of the transposed kernel
    for ours, theirs in zip(gradients(layer, x, upstream), wanted, strict=True):
        assert_allclose(ours, theirs, atol=2e-5)


def test_quantized_there_and_back(split, mode):
    layer = filled_layer(split)
    before = ops.convert_to_numpy(layer.kernel)
    layer.quantize(mode)
    kernel = ops.convert_to_numpy(layer.kernel)
    assert relative_error(before, kernel) < {"int8": 0.02, "int4": 0.3}[mode]
    layer.dequantize()
    assert_allclose(ops.convert_to_numpy(layer.kernel), kernel, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": "rows"}, r"`side` must be one of \['inputs', 'outputs'\]"),
        ({"grouped_inputs": True}, '`grouped_inputs` takes `side="inputs"`'),
        ({"rank": N + 1}, "`rank` must not exceed the width of the matrix, 6"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    arguments = {"num_clusters": 2, "rank": 2, "side": "outputs", **arguments}
    with pytest.raises(ValueError, match=message):
        MessiDense(D, **arguments).build((None, N))


def inputs_of_a_layer(n=20, m=500):
    """Inputs that depend on each other."""
    rng = np.random.default_rng(1)
    mix = rng.standard_normal((n, n)) * 0.7 ** np.arange(n)[:, np.newaxis]
    return (rng.standard_normal((m, n)) @ mix + 3).astype("float32")


def known_matrix(n=20, d=30):
    """The matrix of a layer with such inputs."""
    layer = keras.layers.Dense(d)
    layer.build((None, n))
    layer.kernel.assign(np.random.default_rng(0).standard_normal((n, d)))
    inputs = models.moments_of(inputs_of_a_layer())
    return matrix_of(layer).told(inputs, np.ones(n))


def output_error_of(matrix, factors):
    """Squared error of the outputs about their mean, each over its spread."""
    kernel = reference.dense_matrix(*factors[:3])
    kernel = kernel if factors.side == "inputs" else kernel.T
    x = inputs_of_a_layer() - matrix.inputs.mean
    errors = np.sum((x @ (matrix.values - kernel)) ** 2, axis=0)
    return np.sum(errors / np.linalg.norm(x @ matrix.values, axis=0))


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_one_subspace_leaves_the_least_error_of_the_outputs(side):
    matrix, rank = known_matrix(), 4
    x = inputs_of_a_layer() - matrix.inputs.mean
    y = x @ matrix.values
    y /= np.sqrt(np.linalg.norm(y, axis=0))
    least = np.sum(np.linalg.svd(y, compute_uv=False)[rank:] ** 2)
    found = factors_of(matrix, MessiConfig(rank=rank, num_clusters=1, side=side))
    assert found.side == side
    assert_allclose(output_error_of(matrix, found), least, rtol=1e-2)  # of the ridge
    plain = factors_of(
        matrix._replace(inputs=None), MessiConfig(rank=rank, num_clusters=1)
    )
    assert output_error_of(matrix, plain) > 1.5 * least


def test_clusters_of_inputs_are_fitted_to_the_outputs():
    matrix, config = known_matrix(), MessiConfig(rank=3, num_clusters=3, side="inputs")
    before = factors_of(matrix._replace(inputs=None), config)
    after = refitted(before, matrix)
    assert np.array_equal(after.assignments, before.assignments)
    assert [len(v) for v in after.bases] == [3, 3, 3]
    assert output_error_of(matrix, after) < 0.8 * output_error_of(matrix, before)
    again = refitted(after, matrix)
    assert output_error_of(matrix, again) <= 1.001 * output_error_of(matrix, after)


def test_clusters_of_outputs_are_found():
    matrix = known_matrix()
    rng = np.random.default_rng(1)
    groups = [rng.standard_normal((20, 2)) @ rng.standard_normal((2, 15)) for _ in "ab"]
    order = rng.permutation(30)
    matrix = matrix._replace(values=np.concatenate(groups, axis=1)[:, order])
    found = factors_of(matrix, MessiConfig(rank=2, num_clusters=2))
    assert_allclose(reference.dense_matrix(*found[:3]).T, matrix.values, atol=1e-6)
    labels = found.assignments[np.argsort(order)]
    assert len(set(labels[:15])) == len(set(labels[15:])) == 1


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_side_that_is_asked_for_is_taken(side):
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(30, name="up")])
    config = MessiConfig(0.5, 2, scope="layer", side=side)
    small, report = compress(model, config)
    assert report.replaced[0].side == small.get_layer("up").side == side


def test_tokens_of_a_table_are_clustered_whatever_the_side():
    table = keras.layers.Embedding(60, 16)
    model = keras.Sequential([keras.Input((3,), dtype="int32"), table])
    _, report = compress(model, MessiConfig(0.5, 2, scope="layer", side="outputs"))
    assert report.replaced[0].num_clusters == 2


@pytest.mark.parametrize("quantization", FORMS, ids=str)
def test_all_forms_of_numbers_lose_less_with_data(quantization):
    matrix = known_matrix()
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(30, name="up")])
    model.get_layer("up").kernel.assign(matrix.values)
    data = inputs_of_a_layer()
    options = {"scope": "layer", "quantization": quantization}
    config = MessiConfig(0.5, 2, side="outputs", **options)
    small, report = compress(model, config, calibration_data=data)
    (row,) = report.replaced
    assert row.side == small.get_layer("up").side == "outputs"
    assert "of outputs" in str(report)
    assert "second moment" in row.adopted
    assert row.output_error < 0.8 * row.plain_output_error
    y, z = (ops.convert_to_numpy(x(data)) for x in (model, small))
    error = np.sum((y - z) ** 2) / np.sum((y - y.mean(axis=0)) ** 2)
    assert row.output_error == pytest.approx(error, rel=1e-2)


def test_the_better_side_stays():
    matrix = known_matrix()
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(30)])
    model.layers[0].kernel.assign(matrix.values)
    options = {"scope": "layer", "rate": 0.5}
    errors = [
        compress(model, MessiConfig(**options, **more), calibration_data=data)[1]
        .replaced[0]
        .output_error
        for data in [inputs_of_a_layer()]
        for more in (
            {"num_clusters": 3},
            {"num_clusters": 3, "side": "inputs"},
            {"num_clusters": 3, "side": "outputs"},
            {"num_clusters": 1, "side": "outputs"},
        )
    ]
    assert errors[0] == min(errors[1:])


def test_layers_that_matter_to_the_outputs_get_more_of_a_budget():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 30)).astype("float32")
    inputs = keras.Input((30,))
    parts = [
        keras.layers.Rescaling(scale)(keras.layers.Dense(30, name=name)(inputs))
        for name, scale in (("loud", 1.0), ("quiet", 0.1))
    ]
    model = keras.Model(inputs, keras.layers.Add()(parts))
    config = MessiConfig(0.6, 1, scope="model")
    _, report = compress(model, config, calibration_data=x)
    ranks = {row.path: sum(row.ranks) for row in report.replaced}
    assert ranks["loud"] > 2 * ranks["quiet"] > 0
    _, report = compress(model, config)
    ranks = {row.path: sum(row.ranks) for row in report.replaced}
    assert ranks["loud"] < 1.5 * ranks["quiet"]
