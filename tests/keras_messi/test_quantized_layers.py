"""Layers with factors of 8 and 4 bits, on whichever backend Keras runs."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops
from keras.quantizers import unpack_int4
from numpy.testing import assert_allclose

from keras_messi.layers import MessiDense, MessiEmbedding, static_lookup
from keras_messi.layers.numbers.integers import quantize_rows
from keras_messi.layers.sizes import stored_bytes
from keras_messi.layers.storage.quantized_factors import quantize_factors
from keras_messi.models.keras.sizes import count_parameters
from tests.reference import relative_error

from .factored import SPLITS as ALL_SPLITS
from .factored import D, N, filled_layer, fixture_of, stored

BACKEND = keras.backend.backend()
BITS = {"int8": 8, "int4": 4}
# One cluster; and an odd rank beside an even one, of which the sum is odd.
SPLITS = [ALL_SPLITS[0], ALL_SPLITS[3]]
# Of each number, a code is off by half a step at most, and a factor has two codes.
# Ranks and sizes here are tiny: most errors are far below those bounds.


kind = fixture_of(MessiDense, MessiEmbedding)
split = fixture_of(*SPLITS)


def quantized_layer(kind, split, mode, **arguments):
    layer, _, x, _ = filled_layer(kind, split, **arguments)
    layer.quantize(mode)
    return layer, x


def nibbles(packed, length, axis):
    """Codes of four bits, two a byte, one after another."""
    packed = np.moveaxis(packed, axis, 0)
    codes = np.zeros((length, *packed.shape[1:]), int)
    for i in range(length):
        byte = packed[i // 2].astype(int) % 256
        nibble = byte // 16 if i % 2 else byte % 16
        codes[i] = nibble - 16 * (nibble >= 8)
    return np.moveaxis(codes, 0, axis)


def oracle_matrix(layer):
    """The matrix that a quantized layer stands for, number by number."""
    store, steps = stored(layer), 2 ** (BITS[layer.quantization] - 1)
    bases = store["bases"]
    if layer.quantization == "int4":
        bases = nibbles(bases, sum(layer.ranks), axis=0)
    matrix = np.zeros((N, D))
    position = start = 0
    for c, rank in enumerate(layer.ranks):
        table = store[f"coordinates_{c}"]
        if layer.quantization == "int4":
            table = nibbles(table, rank, axis=1)
        for place, row in enumerate(np.flatnonzero(layer.assignments == c)):
            for m in range(rank):
                u = table[place, m] / steps * float(store["row_scales"][position])
                v = bases[start + m] / steps * store["basis_scales"][start + m]
                matrix[row] += u * v
            position += 1
        start += rank
    return matrix


def expected_of(layer, x):
    matrix = oracle_matrix(layer)
    if isinstance(layer, MessiDense):
        return x @ matrix + ops.convert_to_numpy(layer.bias)
    return matrix[x]


def dense_of(layer):
    return ops.convert_to_numpy(
        layer.kernel if isinstance(layer, MessiDense) else layer.embeddings
    )


def test_call_multiplies_by_what_the_codes_stand_for(kind, split, mode):
    layer, x = quantized_layer(kind, split, mode)
    expected = expected_of(layer, x)
    assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=2e-5)
    assert_allclose(dense_of(layer), oracle_matrix(layer), atol=1e-5)
    with static_lookup():
        assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=2e-5)


@pytest.mark.parametrize(("mode", "bound"), [("int8", 0.01), ("int4", 0.2)])
def test_the_matrix_stays_nearly_the_same(kind, split, mode, bound):
    layer, matrix, *_ = filled_layer(kind, split)
    layer.quantize(mode)
    # A code is off by half a step of at most 1 / 128 or 1 / 8 of the greatest number
    # of the row, evenly spread; the errors of both factors add up in squares.
    assert relative_error(dense_of(layer), matrix) < bound


def test_tied_logits_are_those_of_the_matrix(split, mode):
    layer, _ = quantized_layer(MessiEmbedding, split, mode)
    hidden = np.random.default_rng(2).standard_normal((2, 3, D)).astype("float32")
    logits = ops.convert_to_numpy(layer(hidden, reverse=True))
    assert_allclose(logits, hidden @ oracle_matrix(layer).T, atol=2e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(kind, split, mode, policy):
    layer, x = quantized_layer(kind, split, mode, dtype=policy)
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
    expected = expected_of(layer, x)
    y = ops.convert_to_numpy(ops.cast(y, "float32"))
    assert_allclose(y, expected, atol=0.03 * np.abs(expected).max())


def test_grouped_inputs_need_no_ids(mode):
    layer, x = quantized_layer(MessiDense, SPLITS[1], mode, grouped_inputs=True)
    assert_allclose(ops.convert_to_numpy(layer(x)), expected_of(layer, x), atol=2e-5)


def test_codes_are_packed_as_keras_packs_them(split):
    layer, _ = quantized_layer(MessiEmbedding, split, "int4")
    store = stored(layer)
    for c, rank in enumerate(layer.ranks):
        packed = store[f"coordinates_{c}"]
        codes = ops.convert_to_numpy(
            unpack_int4(ops.convert_to_tensor(packed), rank, axis=1)
        )
        assert np.array_equal(codes, nibbles(packed, rank, axis=1))
        assert packed.shape[1] == (rank + 1) // 2


def test_each_row_gets_the_best_of_the_scales(mode):
    rows = np.random.default_rng(0).standard_normal((5, 7))
    codes, scales = quantize_rows(rows, mode, np.float32)
    steps = 2 ** (BITS[mode] - 1)
    for row, code, scale in zip(rows, codes, scales, strict=True):
        peak = max(row, key=abs)
        errors = []
        for share in np.linspace(0.6, 1, 9):
            step = -share * peak / steps
            near = np.clip(np.round(row / step), -steps, steps - 1)
            errors.append(np.sum((row - near * step) ** 2))
        assert np.isclose(np.sum((row - code * scale / steps) ** 2), min(errors))


def test_rows_far_smaller_than_others_keep_their_precision():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((6, 5)).astype("float32")
    u[1] *= 1e-6
    u[2] = 0
    v = np.linalg.qr(rng.standard_normal((8, 5)))[0].T.astype("float32") * 1e4
    store = quantize_factors([u], [v], "int8")
    scales = store["row_scales"].astype("float64")
    assert scales.dtype == np.float64
    assert np.isfinite(scales).all()
    assert abs(scales).max() <= 1
    assert scales[2] == 0
    assert not store["coordinates_0"][2].any()
    u_codes = store["coordinates_0"] / 128 * scales[:, None]
    matrix = u_codes @ (store["bases"] / 128 * store["basis_scales"][:, None])
    for i in (0, 1, 3, 4, 5):
        assert relative_error(matrix[i], u[i] @ v) < 0.03


def test_factors_of_zeros_stay_zeros(mode):
    store = quantize_factors([np.zeros((4, 3))], [np.eye(3, 6)], mode)
    assert not store["coordinates_0"].any()
    assert not store["row_scales"].any()
    assert all(np.isfinite(x).all() for x in store.values())


def test_bytes_on_disk_are_those_of_the_formula(kind, split, mode):
    layer, _ = quantized_layer(kind, split, mode)
    per_byte = 8 // BITS[mode]
    size = sum(
        n * math.ceil(rank / per_byte)
        for n, rank in zip(layer.cluster_sizes, layer.ranks, strict=True)
    )
    total = sum(layer.ranks)
    size += math.ceil(total / per_byte) * D + 2 * N + 4 * total
    size += N if layer.num_clusters > 1 else 0
    size += 4 * D if kind is MessiDense else 0
    assert stored_bytes([layer]) == size


def test_numbers_are_counted_as_before(kind, split, mode):
    layer, *_ = filled_layer(kind, split)
    before = count_parameters(layer)
    assert layer.num_parameters == before
    layer.quantize(mode)
    assert count_parameters(layer) == before == layer.num_parameters


def test_weights_are_those_of_a_new_layer(kind, split, mode):
    layer, _ = quantized_layer(kind, split, mode)
    twin = kind.from_config(json.loads(json.dumps(layer.get_config())))
    twin.build((None, N))
    described = [(w.name, w.shape, w.dtype, w.trainable) for w in layer.weights]
    assert described == [(w.name, w.shape, w.dtype, w.trainable) for w in twin.weights]
    assert len(layer.trainable_weights) == (1 if kind is MessiDense else 0)
    assert layer.count_params() == sum(math.prod(w.shape) for w in layer.weights)


def test_what_is_stored_can_be_loaded(kind, split, mode):
    layer, x = quantized_layer(kind, split, mode)
    twin = kind.from_config(layer.get_config())
    twin.build((None, N))
    twin.load_own_variables(stored(layer))
    assert np.array_equal(ops.convert_to_numpy(twin(x)), ops.convert_to_numpy(layer(x)))
    for name, value in stored(twin).items():
        assert value.dtype == stored(layer)[name].dtype


def test_factors_of_the_other_kind_are_not_loaded(kind, mode):
    layer, *_ = filled_layer(kind, SPLITS[1])
    store = stored(layer)
    layer.quantize(mode)
    twin, *_ = filled_layer(kind, SPLITS[1])
    for target, wrong in ((layer, store), (twin, stored(layer))):
        with pytest.raises(ValueError, match="expects factors as its quantization="):
            target.load_own_variables(wrong)


def test_a_dequantized_layer_computes_the_same_and_trains(kind, split, mode):
    layer, x = quantized_layer(kind, split, mode)
    before = ops.convert_to_numpy(layer(x))
    layer.dequantize()
    assert layer.quantization is None
    assert_allclose(ops.convert_to_numpy(layer(x)), before, atol=2e-5)
    fresh = kind.from_config(layer.get_config())
    fresh.build((None, N))
    assert [w.shape for w in layer.weights] == [w.shape for w in fresh.weights]
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    weights = [ops.convert_to_numpy(w) for w in layer.trainable_weights]
    target = np.zeros((len(x), *model.output_shape[1:]))
    losses = model.fit(x, target, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for weight, old in zip(layer.trainable_weights, weights, strict=True):
        assert not np.array_equal(ops.convert_to_numpy(weight), old)


def test_inputs_and_bias_train_through_a_quantized_layer(split, mode):
    layer, x = quantized_layer(MessiDense, split, mode)
    inputs = keras.Input((N,))
    first = keras.layers.Dense(N)
    model = keras.Model(inputs, layer(first(inputs)))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    weights = [first.kernel, layer.bias]
    before = [ops.convert_to_numpy(w) for w in weights]
    codes = ops.convert_to_numpy(layer.bases)
    model.fit(x, np.zeros((len(x), D)), epochs=2, verbose=0)
    for weight, old in zip(weights, before, strict=True):
        assert not np.array_equal(ops.convert_to_numpy(weight), old)
    assert np.array_equal(ops.convert_to_numpy(layer.bases), codes)


def test_a_frozen_layer_stays_frozen(kind, mode):
    layer, *_ = filled_layer(kind, SPLITS[1])
    layer.trainable = False
    layer.quantize(mode)
    layer.dequantize()
    assert not layer.trainable_weights
    assert not any(w.trainable for w in layer.weights)


def test_ids_out_of_range_are_refused_as_ever(mode):
    for split in SPLITS:
        layer, _ = quantized_layer(MessiEmbedding, split, mode)
        if BACKEND == "jax":
            assert np.isnan(ops.convert_to_numpy(layer(np.array([N])))).all()
        else:
            with pytest.raises(Exception, match="range|bounds|indices"):
                layer(np.array([N]))
        last = ops.convert_to_numpy(layer(np.array([-1, N - 1])))
        assert_allclose(last[0], last[1])


def test_layers_refuse_what_they_cannot_do(kind):
    layer, *_ = filled_layer(kind, SPLITS[1])
    with pytest.raises(ValueError, match="`mode` must be one of.*'float8'"):
        layer.quantize("float8")
    with pytest.raises(ValueError, match="`dequantize` needs .* quantized"):
        layer.dequantize()
    layer.quantize("int8")
    with pytest.raises(ValueError, match="not quantized. Received.*'int8'"):
        layer.quantize("int4")
    with pytest.raises(ValueError, match="built=False"):
        MessiDense(3, 2, 2).quantize("int8")
    with pytest.raises(ValueError, match="`quantization` must be one of.*'float8'"):
        MessiDense(3, 2, 2, quantization="float8")


def test_factors_that_are_not_finite_are_refused(kind, mode):
    layer, *_ = filled_layer(kind, SPLITS[1])
    bases = stored(layer)["bases"]
    bases[0, 0] = np.nan
    layer.bases.assign(bases)
    with pytest.raises(ValueError, match="must be finite"):
        layer.quantize(mode)
    assert layer.quantization is None


def test_a_quantizer_for_weights_is_refused():
    layer, *_ = filled_layer(MessiDense, SPLITS[1])
    quantizer = keras.quantizers.AbsMaxQuantizer(axis=0)
    config = keras.quantizers.Int8QuantizationConfig(weight_quantizer=quantizer)
    with pytest.raises(ValueError, match="no weight_quantizer"):
        layer.quantize(config=config)
