"""Every storage in every use, and a new kind of layer that works with all of them."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

from keras_messi.layers.storage.codewords.codebooks import Codebooks
from keras_messi.layers.storage.codewords.coded_factors import CodedFactors
from keras_messi.layers.storage.factors import Factors
from keras_messi.layers.storage.few_bits.entropy_coded import EntropyCoded
from keras_messi.layers.storage.few_bits.entropy_coded_factors import (
    EntropyCodedFactors,
)
from keras_messi.layers.storage.few_bits.rounded import Rounded
from keras_messi.layers.storage.few_bits.rounded_factors import RoundedFactors
from keras_messi.layers.storage.lora import Lora
from keras_messi.layers.storage.transposed import Transposed
from keras_messi.layers.stored_matrix import StoredMatrix
from tests.keras_messi import small_layers
from tests.keras_messi.factored import drawn, fill_integers

N, D = 12, 8
STORAGES = [
    (Factors, {"num_clusters": 1, "rank": 3}),
    (Factors, {"num_clusters": 3, "rank": [1, 4, 2]}),
    (Factors, {"num_clusters": 2, "rank": 3, "quantization": "int8"}),
    (Factors, {"num_clusters": 2, "rank": 3, "quantization": "int4"}),
    (CodedFactors, {"num_clusters": 2, "rank": 4, "block_size": 2, "num_codewords": 5}),
    (RoundedFactors, {"num_clusters": 2, "rank": [3, 2], "bits": 2}),
    (RoundedFactors, {"num_clusters": 2, "rank": 4, "bits": 3, "quantization": None}),
    (EntropyCodedFactors, {"num_clusters": 2, "rank": [3, 2]}),
    (EntropyCoded, {}),
    (Codebooks, {"block_size": 4, "num_codewords": 3}),
    (Rounded, {"bits": 3, "block_size": 5, "levels": "normal"}),
    (Rounded, {"bits": 4, "rotation": 2}),
]
WRAPPED = [lambda x: x, Transposed, lambda x: Lora(Transposed(x), 2, 3.0)]


class StoredEinsum(StoredMatrix):
    """The products over the last axis but one: (batch, n, m) to (batch, d, m)."""

    storage_class = Factors

    def build(self, input_shape):
        self._add_weights(input_shape[1])
        self.built = True

    def _add_weights(self, n):
        self.storage.build(self.add_weight, (n, D), by_rows=False)

    def call(self, inputs):
        x = self.storage.multiply(ops.swapaxes(inputs, 1, 2), self.compute_dtype)
        return ops.swapaxes(x, 1, 2)


def einsum_layer(storage_class, arguments):
    kind = type("Einsum", (StoredEinsum,), {"storage_class": storage_class})
    layer = kind(**arguments)
    layer.build((None, N, 5))
    return layer


def filled(storage, by_rows):
    """A built storage with random weights, of which routing is a permutation."""
    storage.build(keras.layers.Layer().add_weight, (N, D), by_rows)
    store = {}
    storage.save(store, "layer")
    storage.load(drawn(store), "layer")
    if isinstance(storage, EntropyCoded | EntropyCodedFactors):
        fill_integers(storage)
    return storage


@pytest.mark.parametrize(("storage_class", "arguments"), STORAGES, ids=str)
@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("wrapped", [lambda x: x, Transposed], ids=["", "transposed"])
def test_all_reads_agree_with_the_matrix(storage_class, arguments, by_rows, wrapped):
    storage = filled(wrapped(storage_class(**arguments)), by_rows)
    matrix = ops.convert_to_numpy(storage.matrix("float32"))
    rng, ids = np.random.default_rng(1), np.array([[3, 0], [11, 3]])
    x = rng.standard_normal((7, N)).astype("float32")
    h = rng.standard_normal((7, D)).astype("float32")
    found = {
        "multiply": (storage.multiply, x, x @ matrix),
        "transposed": (storage.multiply_transposed, h, h @ matrix.T),
        "rows": (storage.rows, ids, matrix[ids]),
        "static": (partial(storage.rows, static=True), ids, matrix[ids]),
    }
    for name, (read, inputs, expected) in found.items():
        got = ops.convert_to_numpy(read(ops.convert_to_tensor(inputs), dtype="float32"))
        assert_allclose(got, expected, atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(("storage_class", "arguments"), STORAGES, ids=str)
@pytest.mark.parametrize("by_rows", [True, False])
@pytest.mark.parametrize("wrapped", WRAPPED, ids=["", "transposed", "lora"])
def test_two_factors_multiply_to_the_matrix(storage_class, arguments, by_rows, wrapped):
    storage = filled(wrapped(storage_class(**arguments)), by_rows)
    factors = storage.two_factors("float32")
    if factors is None:
        assert not issubclass(storage_class, Factors)
        return
    left, right = map(ops.convert_to_numpy, factors)
    assert left.shape[1] == sum(storage.plain.ranks) + getattr(storage, "lora_rank", 0)
    matrix = ops.convert_to_numpy(storage.matrix("float32"))
    assert_allclose(left @ right, matrix, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("storage_class", "arguments"), STORAGES, ids=str)
def test_a_new_kind_of_layer_works_with_all_storages(storage_class, arguments):
    layer = einsum_layer(storage_class, arguments)
    x = np.random.default_rng(0).standard_normal((2, N, 5)).astype("float32")
    matrix = ops.convert_to_numpy(layer.storage.matrix("float32"))
    y = ops.convert_to_numpy(layer(x))
    assert_allclose(y, np.einsum("bnm,nd->bdm", x, matrix), atol=1e-5)
    for name in storage_class.arguments():
        assert getattr(layer, name) is getattr(layer.storage, name)
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()


@pytest.mark.parametrize("kind", small_layers.ARGUMENTS)
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_a_dense_layer_takes_numbers_of_any_type(kind, dtype):
    layer = small_layers.small_layer(kind, is_dense=True)
    x = np.random.default_rng(0).integers(0, 2, (3, small_layers.N)).astype(dtype)
    want = ops.convert_to_numpy(layer(x.astype("float32")))
    got = ops.convert_to_numpy(layer(ops.convert_to_tensor(x)))
    assert_allclose(got, want, atol=1e-6)
