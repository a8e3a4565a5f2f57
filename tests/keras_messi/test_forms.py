"""What matrices are made of, and models with plain layers in place of small ones."""

import keras
import numpy as np
import pytest

from keras_messi import layers
from keras_messi.exporting.float_twins import float_twin
from keras_messi.exporting.forms import Factors, Integers, transposed
from keras_messi.exporting.forms_of_layers import form_of_layer
from tests.keras_messi.small_layers import KINDS, D, N, matrix_of, small_layer

each_kind = pytest.mark.parametrize("kind", KINDS)
each_use = pytest.mark.parametrize("is_dense", [True, False], ids=["Dense", "table"])


@each_kind
@each_use
def test_a_form_is_the_matrix_that_the_layer_computes_with(kind, is_dense):
    layer = small_layer(kind, is_dense)
    form = form_of_layer(layer)
    assert form.shape == (N, D)
    assert form.matrix().dtype == np.float32
    want = matrix_of(layer)
    np.testing.assert_allclose(form.matrix(), want, atol=1e-5 * np.abs(want).max())


@each_kind
def test_the_form_of_a_transpose_is_its_matrix(kind):
    form = form_of_layer(small_layer(kind, is_dense=True))
    np.testing.assert_array_equal(transposed(form).matrix(), form.matrix().T)


def test_one_cluster_of_outputs_is_exported_as_factors():
    layer = layers.MessiDense(D, 1, 3, side="outputs", use_bias=False)
    layer.build((None, N))
    layer.quantize("int8")
    form = form_of_layer(layer)
    assert isinstance(form, Factors)
    assert isinstance(form.coordinates[0], Integers)
    np.testing.assert_allclose(form.matrix(), matrix_of(layer), atol=1e-6)


def test_layers_that_store_plain_numbers_have_no_form():
    layer = keras.layers.Dense(D)
    layer.build((None, N))
    assert form_of_layer(layer) is None
    assert form_of_layer(layers.MessiDense(D, 1, 2)) is None  # not built


def test_a_subclass_with_code_of_its_own_has_no_form():
    class Doubled(layers.MessiDense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    layer = Doubled(D, 1, 2)
    layer.build((None, N))
    assert form_of_layer(layer) is None


def test_integers_say_what_shares_a_scale():
    form = form_of_layer(small_layer("4 bits", is_dense=True))
    assert isinstance(form, Integers)
    assert form.has_scales_outside
    assert form.scales.shape == (1, D)
    table = form_of_layer(small_layer("4 bits", is_dense=False))
    assert table.has_scales_outside
    assert table.scales.shape == (N, 1)
    assert not form_of_layer(small_layer("4 bits in blocks", True)).has_scales_outside


def test_factors_know_the_order_of_their_rows():
    form = form_of_layer(small_layer("float factors", is_dense=True))
    assert isinstance(form, Factors)
    assert not form.is_grouped
    assert np.all(np.diff(form.assignments[form.order].astype(int)) >= 0)
    grouped = layers.MessiDense(D, 3, 2, grouped_inputs=True)
    grouped.build((None, N))
    assert form_of_layer(grouped).is_grouped


def classifier(kind):
    """A table and two Dense layers of a kind, one of them with a relu."""
    tokens = keras.Input((5,), dtype="int32")
    x = small_layer(kind, is_dense=False, mask_zero=True)(tokens)
    x = keras.layers.Dense(N, name="plain")(x)
    x = small_layer(kind, is_dense=True, activation="relu", name="inner")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, x)


@pytest.mark.parametrize("kind", ["int8 factors", "codes", "Keras int4"])
def test_the_twin_computes_the_same_with_plain_layers(kind):
    model = classifier(kind)
    twin = float_twin(model)
    x = np.random.default_rng(0).integers(0, N, (4, 5)).astype("int32")
    want = keras.ops.convert_to_numpy(model(x))
    got = keras.ops.convert_to_numpy(twin.model(x))
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    assert not twin.left
    assert [matrix.path for matrix in twin.matrices][1:] == ["inner"]
    for layer in twin.model.layers:
        assert layer.__class__.__module__.startswith("keras.")
    kernel = keras.ops.convert_to_numpy(twin.model.get_layer("inner").kernel)
    assert np.array_equal(kernel, twin.matrices[1].numbers)


def test_a_model_of_plain_layers_is_its_own_twin():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    twin = float_twin(model)
    assert twin.model is model
    assert not twin.matrices


def test_layers_in_half_precision_are_left_and_say_so():
    layer = layers.MessiDense(D, 1, 2, dtype="float16", name="half")
    model = keras.Sequential([keras.Input((N,)), layer])
    twin = float_twin(model)
    assert twin.model is model
    assert twin.left == {"half": "it is in float16"}
