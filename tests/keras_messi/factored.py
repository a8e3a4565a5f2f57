"""Factored layers with random weights, and oracles for what they compute."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_messi.layers import MessiDense
from keras_messi.layers.storage.few_bits.entropy_coded import scales_from
from tests import reference

N, D = 12, 6
# num_clusters, rank, cluster_sizes
SPLITS = [(1, 2, None), (3, 2, None), (3, [1, 2, 3], [5, 3, 4]), (2, [6, 1], [1, 11])]
# Every row of the table at least once, so that every weight gets a gradient.
TOKENS = np.array([[0, 3, 11, 4, 10, 2, 7], [7, 7, 5, 9, 8, 1, 6]], dtype="int32")


def drawn(store):
    """What a layer or storage stores, with random numbers and routing."""
    rng, found = np.random.default_rng(0), {}
    for name, value in store.items():
        found[name] = value = ops.convert_to_numpy(value)
        if name == "assignments":
            found[name] = rng.permutation(value)
        elif value.dtype == np.int8:
            found[name] = rng.integers(-8, 8, value.shape).astype("int8")
        elif value.dtype != np.uint8:
            found[name] = rng.standard_normal(value.shape).astype(value.dtype)
    return found


def fill_integers(storage):
    """Random integers, and scales of rows, for what is entropy coded on disk."""
    rng, most = np.random.default_rng(0), 3 if storage.integer_dtype == "int8" else 300
    for table in getattr(storage, "coordinates", None) or [storage.integers]:
        integers = rng.integers(-most, most + 1, table.shape)
        table.assign(integers.astype(storage.integer_dtype))
    if hasattr(storage, "bases"):
        storage.bases.assign(rng.integers(-99, 99, storage.bases.shape).astype("int8"))
        storage.basis_scales.assign(rng.uniform(0.5, 1.5, sum(storage.ranks)))
    exponents = rng.integers(0, 9, storage.shape[0])
    storage.row_scales.assign(scales_from(np.float32([0.7]), exponents))


def random_factors(layer, seed=0):
    """What a layer stores, drawn at random, and the matrix that it stands for."""
    rng = np.random.default_rng(seed)
    sizes = [tuple(u.shape) for u in layer.coordinates]
    assignments = rng.permutation(
        np.repeat(np.arange(len(sizes)), [n for n, _ in sizes])
    )
    coordinates = [rng.standard_normal(shape).astype("float32") for shape in sizes]
    bases = [rng.standard_normal((j, D)).astype("float32") for _, j in sizes]
    store = {f"coordinates_{c}": u for c, u in enumerate(coordinates)}
    store |= {"bases": np.concatenate(bases), "assignments": assignments}
    if isinstance(layer, MessiDense):
        store["bias"] = rng.standard_normal(D).astype("float32")
    return store, reference.dense_matrix(assignments, coordinates, bases)


def filled_layer(kind, split, **arguments):
    """A built layer with random factors, the matrix, and what it should compute."""
    num_clusters, rank, sizes = split
    shape = (D,) if kind is MessiDense else (N, D)
    layer = kind(*shape, num_clusters, rank, sizes, **arguments)
    layer.build((None, N) if kind is MessiDense else (None, None))
    store, matrix = random_factors(layer)
    layer.load_own_variables(store)
    if kind is MessiDense:
        x = np.random.default_rng(1).standard_normal((4, N)).astype("float32")
        return layer, matrix, x, x @ matrix + store["bias"]
    return layer, matrix, TOKENS, matrix[TOKENS]


def stored(layer):
    """What a layer stores, as numpy arrays."""
    store = {}
    layer.save_own_variables(store)
    return {name: ops.convert_to_numpy(value) for name, value in store.items()}


def gradients_of_factors(layer, gradient):
    """Gradients of the factors, from that of the (n, d) matrix that they stand for."""
    store, start = stored(layer), 0
    for_coordinates, for_bases = [], []
    for c, rank in enumerate(layer.ranks):
        basis = store["bases"][start : start + rank]
        own = gradient[layer.assignments == c]
        for_coordinates.append(own @ basis.T)
        for_bases.append(store[f"coordinates_{c}"].T @ own)
        start += rank
    return [*for_coordinates, np.concatenate(for_bases)]


def gradients(layer, x, upstream, **arguments):
    """Gradients of sum(upstream * layer(x)) for the coordinates and the bases."""
    weights = [*layer.coordinates, layer.bases]
    return gradients_of(layer, weights, x, upstream, **arguments)


def gradients_of(layer, weights, x, upstream, **arguments):
    """Gradients of sum(upstream * layer(x)) for some weights of the layer."""
    found = BACKENDS[keras.backend.backend()](layer, weights, x, upstream, arguments)
    return [ops.convert_to_numpy(gradient) for gradient in found]


def _tensorflow_gradients(layer, weights, x, upstream, arguments):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, **arguments) * upstream)
    found = tape.gradient(loss, [weight.value for weight in weights])
    return [tf.convert_to_tensor(gradient) for gradient in found]


def _torch_gradients(layer, weights, x, upstream, arguments):
    import torch

    loss = ops.sum(layer(x, **arguments) * ops.convert_to_tensor(upstream))
    return torch.autograd.grad(loss, [weight.value for weight in weights])


def _jax_gradients(layer, weights, x, upstream, arguments):
    import jax

    def loss(values):
        others = [variable.value for variable in layer.non_trainable_variables]
        outputs, _ = layer.stateless_call(values, others, x, **arguments)
        return ops.sum(outputs * upstream)

    found = jax.grad(loss)([variable.value for variable in layer.trainable_variables])
    by_id = dict(zip(map(id, layer.trainable_variables), found, strict=True))
    return [by_id[id(weight)] for weight in weights]


BACKENDS = {
    "tensorflow": _tensorflow_gradients,
    "torch": _torch_gradients,
    "jax": _jax_gradients,
}


def fixture_of(*values):
    """A fixture that is each of some values."""

    def name(value):
        return getattr(value, "__name__", str(value))

    return pytest.fixture(params=values, ids=name)(lambda request: request.param)


def assert_ids_are_treated_as_by_an_embedding(layer, matrix, token, atol):
    """Negative ids and those out of range: the same rows, or the same error."""
    stock = keras.layers.Embedding(*matrix.shape, weights=matrix)
    tokens = np.array([[1, token, 2]])
    try:
        expected = ops.convert_to_numpy(stock(tokens))
    except Exception as error:  # each backend has its own
        with pytest.raises(type(error)):
            layer(tokens)
    else:
        found = ops.convert_to_numpy(layer(tokens))
        np.testing.assert_allclose(found, expected, atol=atol)
