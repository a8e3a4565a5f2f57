"""Codes in as few bits as tell them apart, and the codewords that they stand for."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from numpy.testing import assert_allclose

from keras_messi.layers.numbers.codes import (
    MAX_CODEWORDS,
    averaged_over_uses,
    bits_of,
    codes_dtype,
    codewords_at,
    count_uses,
    pack_codes,
    unpack_codes,
)
from tests import reference

codebooks_and_blocks = pytest.mark.parametrize(
    ("num_codebooks", "num_blocks"), [(1, 4), (2, 4), (4, 4), (1, 1)]
)


@given(
    st.one_of(st.integers(1, 20), st.integers(1, MAX_CODEWORDS)),
    st.tuples(st.integers(0, 7), st.integers(0, 7)),
    st.integers(0, 9),
)
def test_codes_that_were_packed_come_back(num_codewords, shape, seed):
    codes = np.random.default_rng(seed).integers(num_codewords, size=shape)
    packed = pack_codes(codes, num_codewords)
    assert packed.dtype == np.uint8
    assert packed.size == -(-codes.size * bits_of(num_codewords) // 8)
    found = unpack_codes(packed, shape, num_codewords)
    assert found.dtype == codes_dtype(num_codewords)
    assert np.array_equal(found, codes)


@pytest.mark.parametrize(
    ("num_codewords", "bits"),
    [(1, 1), (2, 1), (3, 2), (256, 8), (257, 9), (1024, 10), (65_536, 16)],
)
def test_bits_are_the_logarithm_rounded_up(num_codewords, bits):
    assert bits_of(num_codewords) == bits


def test_codes_stand_one_after_another():
    packed = pack_codes(np.array([[0b101, 0b011], [0b110, 0b000]]), 8)
    assert packed.tolist() == [0b10101111, 0b00000000]


def test_bytes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"`packed` must hold 12 codes of 3 bits"):
        unpack_codes(np.zeros(4, np.uint8), (3, 4), 8)


@codebooks_and_blocks
@pytest.mark.parametrize("num_codewords", [5, 300])
def test_codewords_are_those_of_a_loop(num_codebooks, num_blocks, num_codewords):
    rng = np.random.default_rng(0)
    codebooks = rng.standard_normal((num_codebooks, num_codewords, 3))
    codes = rng.integers(num_codewords, size=(6, num_blocks))
    expected = reference.decoded(codebooks, codes)
    for shape in [(6,), (2, 3)]:
        own = codes.reshape(*shape, num_blocks).astype(codes_dtype(num_codewords))
        tensors = map(ops.convert_to_tensor, (codebooks, own))
        found = codewords_at(*tensors, codebooks.shape, num_blocks)
        assert_allclose(found, expected.reshape(*shape, num_blocks * 3))


@codebooks_and_blocks
def test_uses_are_those_of_a_loop(num_codebooks, num_blocks):
    codes = np.random.default_rng(0).integers(5, size=(6, num_blocks))
    uses = count_uses(codes, num_codebooks, 7)
    assert uses.sum() == codes.size
    assert np.array_equal(uses, reference.uses(codes, num_codebooks, 7))


def test_averaging_changes_no_value():
    codebooks = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    uses = np.arange(1, 11, dtype="int32").reshape(2, 5)
    found = averaged_over_uses(keras.Variable(codebooks), uses)
    assert np.array_equal(ops.convert_to_numpy(found), codebooks)
