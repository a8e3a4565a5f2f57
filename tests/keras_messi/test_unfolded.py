"""Layers of other kinds than Dense and Embedding, by the Dense layers that they are."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from numpy.testing import assert_allclose

import keras_messi
from keras_messi import (
    BudgetConfig,
    MessiConfig,
    PQConfig,
    RoundingConfig,
    compress,
    load_model,
    save_model,
)
from keras_messi.layers import (
    CompressedEinsumDense,
    CompressedRecurrent,
    RoundedDense,
    UnfoldedLayer,
)
from keras_messi.layers.replacement import copy_layer
from keras_messi.layers.unfolded.einsum_dense import Equation
from keras_messi.layers.unfolded.table import unfold, why_not_unfolded
from keras_messi.models.keras.surgery import find_layers, replace_layers
from keras_messi.training.quant_noise import add_quant_noise, remove_quant_noise

X = np.random.default_rng(0).standard_normal((64, 7, 12)).astype("float32")

# Equation, output_shape and bias_axes of EinsumDense layers on inputs of (7, 12).
EQUATIONS = [
    ("abc,cd->abd", (7, 6), None),
    ("abc,cde->abde", (7, 2, 3), "de"),
    ("abc,cde->abde", (7, 2, 3), "e"),
    ("abc,cde->adeb", (2, 3, 7), "d"),
    ("abc,ced->abde", (7, 2, 3), "de"),
    ("abc,bcd->ad", (6,), "d"),
    ("abc,cbd->ad", (6,), "d"),
    ("abc,bd->adc", (3, 12), None),
    ("...x,xy->...y", 6, "y"),
]
RECURRENT = [
    keras.layers.LSTM(5),
    keras.layers.LSTM(5, use_bias=False, return_sequences=True, go_backwards=True),
    keras.layers.GRU(5, return_state=True),
    keras.layers.GRU(5, reset_after=False, return_sequences=True),
    keras.layers.SimpleRNN(5, unroll=True, recurrent_dropout=0.5),
]


def drawn(layer):
    """A layer with random weights, biases among them."""
    rng = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(rng.standard_normal(weight.shape).astype("float32"))
    return layer


def einsum(equation, output_shape, bias_axes=None, **options):
    layer = keras.layers.EinsumDense(
        equation, output_shape, bias_axes=bias_axes, **options
    )
    layer.build((None, *X.shape[1:]))
    return drawn(layer)


def recurrent(layer):
    layer = type(layer).from_config(layer.get_config())
    layer.build((None, *X.shape[1:]))
    return drawn(layer)


def as_numpy(outputs):
    return [ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


def assert_same(layer, other, *args, **kwargs):
    pairs = zip(
        as_numpy(layer(*args, **kwargs)), as_numpy(other(*args, **kwargs)), strict=True
    )
    for got, expected in pairs:
        assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("equation", EQUATIONS, ids=str)
def test_an_unfolded_einsum_dense_computes_the_same(equation):
    layer = einsum(*equation, activation="tanh")
    unfolded = unfold(layer)
    assert_same(unfolded, layer, X)
    shape = (None, *X.shape[1:])
    assert unfolded.compute_output_shape(shape) == layer.compute_output_shape(shape)
    again = CompressedEinsumDense.from_config(unfolded.get_config())
    assert again(X).shape == unfolded(X).shape


@pytest.mark.parametrize("equation", EQUATIONS, ids=str)
def test_rows_times_the_unfolding_are_the_outputs_of_the_einsum(equation):
    layer = einsum(*equation)
    unfolded = unfold(layer)
    rows = ops.convert_to_numpy(unfolded.rows("dense", ops.convert_to_tensor(X)))
    products = rows @ ops.convert_to_numpy(unfolded.dense.kernel)
    bias = 0 if layer.bias is None else ops.convert_to_numpy(unfolded.dense.bias)
    got = np.sort((products + bias).ravel())
    assert_allclose(got, np.sort(as_numpy(layer(X))[0].ravel()), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_product_of_two_matrices_is_unfolded(data):
    letters = data.draw(st.permutations("bcdefg"))
    num_summed, num_kept = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    summed, kept = letters[:num_summed], letters[num_summed : num_summed + num_kept]
    free = letters[num_summed + num_kept :][: data.draw(st.integers(0, 2))]
    sizes = {x: data.draw(st.integers(1, 3)) for x in letters}
    inputs = data.draw(st.permutations([*summed, *free]))
    kernel = data.draw(st.permutations([*summed, *kept]))
    outputs = data.draw(st.permutations([*kept, *free]))
    equation = f"a{''.join(inputs)},{''.join(kernel)}->a{''.join(outputs)}"
    layer = keras.layers.EinsumDense(equation, [sizes[x] for x in outputs])
    layer.build((None, *(sizes[x] for x in inputs)))
    x = np.random.default_rng(0).standard_normal((3, *(sizes[x] for x in inputs)))
    assert_same(unfold(drawn(layer)), layer, x.astype("float32"))


@pytest.mark.parametrize(
    ("equation", "reason"),
    [
        ("abc,bcd->abd", "block by block along ['b']"),
        ("abc,cde->abd", "axes of the kernel alone"),
        ("abc,cd->ad", "axes of the inputs alone"),
        ("abb,bd->ad", "occurs twice"),
    ],
)
def test_an_equation_that_is_no_product_of_two_matrices_says_why(equation, reason):
    assert reason in Equation.parse(equation).obstacle()


def test_an_einsum_dense_that_cannot_be_unfolded_is_named_with_the_reason():
    model = keras.Sequential(
        [
            keras.Input((7, 12)),
            keras.layers.EinsumDense("abc,bcd->abd", (7, 3), name="blocks"),
            keras.layers.Dense(12, name="head"),
        ]
    )
    _, report = compress(model, RoundingConfig(8, None))
    [skipped] = report.skipped
    assert (skipped.path, skipped.layer_type) == ("blocks", "EinsumDense")
    assert "abc,bcd->abd is no product of two matrices" in skipped.detail


@pytest.mark.parametrize(
    "arguments",
    [("abc,cd->abd", [12]), ("abc,bcd->abd", [7, 12, 3]), ("abc->abc", [12, 3])],
)
def test_a_compressed_einsum_dense_checks_its_equation(arguments):
    with pytest.raises(ValueError, match="`equation` must be"):
        CompressedEinsumDense(keras.layers.Dense(3), *arguments)


@pytest.mark.parametrize("layer", RECURRENT, ids=lambda x: type(x).__name__)
def test_an_unfolded_recurrent_layer_computes_the_same(layer):
    layer = recurrent(layer)
    unfolded = unfold(layer)
    assert isinstance(unfolded, CompressedRecurrent)
    assert_same(unfolded, layer, X)
    mask = np.arange(7) < np.arange(64)[:, np.newaxis] % 8
    assert_same(unfolded, layer, X, mask=ops.convert_to_tensor(mask))
    assert unfolded.count_params() == layer.count_params()


def test_rows_of_a_recurrent_kernel_are_the_states_before_each_step():
    layer = recurrent(keras.layers.LSTM(5, return_sequences=True))
    rows = unfold(layer).rows("recurrent_kernel", sequences=ops.convert_to_tensor(X))
    states = ops.convert_to_numpy(layer(X))
    found = ops.convert_to_numpy(rows)
    assert_allclose(found[:, 1:], states[:, :-1], atol=1e-6)
    assert not found[:, 0].any()


def test_a_stateful_layer_is_left_with_the_reason():
    layer = keras.layers.LSTM(5, stateful=True)
    layer.build((4, 7, 12))
    assert unfold(layer) is None
    assert why_not_unfolded(layer) == "it is stateful"


def test_an_untied_projection_and_its_table_are_two_matrices():
    layer = keras.layers.ReversibleEmbedding(
        30, 8, tie_weights=False, logit_soft_cap=2.0
    )
    layer.build()
    drawn(layer)
    unfolded = unfold(layer)
    ids = np.arange(12).reshape(3, 4)
    assert_same(unfolded, layer, ids)
    assert_same(unfolded, layer, as_numpy(layer(ids))[0], reverse=True)
    tied = keras.layers.ReversibleEmbedding(30, 8)
    tied.build()
    assert unfold(tied) is None


@pytest.fixture(scope="module")
def model():
    """Attention, recurrence, an einsum over two axes, and a vocabulary."""
    keras.utils.set_random_seed(0)
    table = keras.layers.ReversibleEmbedding(90, 12, tie_weights=False, name="table")
    ids = keras.Input((7,), dtype="int32")
    x = table(ids)
    x = keras.layers.MultiHeadAttention(3, 4, name="attention")(x, x)
    x = keras.layers.Bidirectional(
        keras.layers.GRU(6, return_sequences=True), name="both_ways"
    )(x)
    x = keras.layers.EinsumDense(
        "abc,cde->abed", (7, 4, 3), bias_axes="de", name="fused"
    )(x)
    x = keras.layers.Reshape((7, 12))(x)
    return keras.Model(ids, table(x, reverse=True))


IDS = np.random.default_rng(0).integers(0, 90, (16, 7)).astype("int32")
PATHS = [
    "table/embeddings",
    "table/reverse_embeddings",
    "attention/query_dense",
    "attention/key_dense",
    "attention/value_dense",
    "attention/output_dense",
    "both_ways/forward_layer/kernel",
    "both_ways/forward_layer/recurrent_kernel",
    "both_ways/backward_layer/kernel",
    "both_ways/backward_layer/recurrent_kernel",
    "fused",
]
CONFIGS = [
    MessiConfig(rate=0.3, num_clusters=2, scope="layer"),
    MessiConfig(rate=0.3, num_clusters=2, scope="model", quantization="int8"),
    MessiConfig(rate=0.2, num_clusters=1, scope="layer", sequential=True),
    RoundingConfig(4, None),
    PQConfig(block_size=2, num_codewords=8),
]


def test_layers_are_shown_by_the_matrices_of_their_unfoldings(model):
    found = {x.path: x for x in find_layers(model) if x.layer.weights}
    assert [path for path in found if path in PATHS] == PATHS
    assert found["fused"].layer_type == "EinsumDense"
    assert found["attention/query_dense"].layer_type == "EinsumDense"
    assert found["table/embeddings"].layer_type == "ReversibleEmbedding"
    assert found["both_ways/forward_layer/kernel"].layer_type == "GRU"


def test_a_copy_with_unfolded_layers_computes_the_same(model):
    new = {x.layer: copy_layer(x.layer) for x in find_layers(model) if x.path in PATHS}
    same = replace_layers(model, new)
    assert_same(same, model, IDS)
    assert same.count_params() == model.count_params()


@pytest.mark.filterwarnings("ignore:The outputs of the new model:UserWarning")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda x: type(x).__name__)
def test_all_methods_take_all_kinds_and_files_give_the_same(model, config, tmp_path):
    small, report = compress(model, config, calibration_data=IDS)
    assert {x.path for x in report.replaced} == set(PATHS)
    assert all(x.output_error is not None for x in report.replaced)
    expected = small.predict(IDS, verbose=0)
    save_model(small, tmp_path / "small.keras")
    loaded = load_model(tmp_path / "small.keras")
    assert np.array_equal(loaded.predict(IDS, verbose=0), expected)


def test_a_budget_in_bytes_is_kept_with_attention():
    keras.utils.set_random_seed(0)
    x = keras.Input((7, 12))
    wide = keras.layers.EinsumDense("abc,cde->abde", (7, 16, 32), name="wide")(x)
    narrow = keras.layers.EinsumDense("abde,dec->abc", (7, 12), name="narrow")(wide)
    model = keras.Model(x, narrow)
    small, report = compress(model, BudgetConfig(times_smaller=2), calibration_data=X)
    assert {x.path for x in report.replaced} == {"wide", "narrow"}
    assert report.file_bytes_after <= report.file_bytes_before / 2
    change = as_numpy(small(X))[0] - as_numpy(model(X))[0]
    assert np.square(change).mean() < 0.05 * as_numpy(model(X))[0].var()


def test_filters_see_the_layers_of_the_model(model):
    config = RoundingConfig(8, None)
    _, by_type = compress(
        model, config, lambda layer: isinstance(layer, keras.layers.EinsumDense)
    )
    assert len(by_type.replaced) == 5
    _, by_path = compress(model, config, "both_ways/forward_layer/kernel$")
    assert [x.path for x in by_path.replaced] == ["both_ways/forward_layer/kernel"]


def test_one_of_two_kernels_may_stay_as_it_is_and_be_compressed_later(model):
    config = RoundingConfig(8, None)
    once, _ = compress(model, config, "forward_layer/kernel")
    twice, report = compress(once, config, "forward_layer/recurrent")
    assert [x.path for x in report.replaced] == [
        "both_ways/forward_layer/recurrent_kernel"
    ]
    at_once, _ = compress(model, config, "forward_layer")
    assert_same(twice, at_once, IDS)


@pytest.mark.filterwarnings("ignore:The outputs of the new model:UserWarning")
def test_factors_inside_are_quantized_and_trained(model):
    small, _ = compress(model, MessiConfig(rate=0.3, num_clusters=2, scope="layer"))
    quantized = keras_messi.quantize(small, "int8")
    before, after = (as_numpy(x(IDS))[0] for x in (small, quantized))
    assert np.square(after - before).mean() < 1e-3 * before.var()
    small.compile("adam", "mse")
    weights = [np.array(x) for x in small.trainable_weights]
    small.fit(IDS, np.ones((16, 7, 90)), epochs=1, verbose=0)
    pairs = zip(weights, small.trainable_weights, strict=True)
    unchanged = [w.path for before, w in pairs if np.array_equal(before, w)]
    # The bias of keys adds the same to all scores, and softmax takes it away.
    assert [path for path in unchanged if "key/bias" not in path] == []


def test_all_kinds_compute_with_what_keras_quantizes(model):
    quantized = keras_messi.quantize(model, "int8", ".*")
    before, after = (as_numpy(x(IDS))[0] for x in (model, quantized))
    assert np.square(after - before).mean() < 1e-3 * before.var()


def test_noise_stands_in_unfolded_layers_and_leaves_them(model):
    filters = "fused|query|both_ways"
    noisy = add_quant_noise(model, filters, rate=0.5, block_size=3, seed=0)
    assert_same(noisy, model, IDS)  # in inference there is none
    assert not np.allclose(*(as_numpy(noisy(IDS, training=t))[0] for t in (0, 1)))
    assert_same(remove_quant_noise(noisy), model, IDS)


# A layer of one's own, from here
class Scaled(keras.layers.Layer):
    """Inputs times a kernel that is stored transposed, and a scale of all of it."""

    def build(self, input_shape):
        self.weight = self.add_weight((40, input_shape[-1]), "glorot_uniform")
        self.scale = self.add_weight((), "ones")

    def call(self, inputs):
        return self.scale * ops.matmul(inputs, ops.transpose(self.weight))


@keras.saving.register_keras_serializable("my_layers")
@keras_messi.register_layer(Scaled)
class CompressedScaled(UnfoldedLayer):
    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense

    @classmethod
    def unfold(cls, layer):
        units, n = layer.weight.shape
        dense = keras.layers.Dense(units, use_bias=False, name=layer.name)
        dense.build((None, n))
        dense.kernel.assign(ops.transpose(layer.weight))
        unfolded = cls(dense, name=layer.name)
        unfolded.build((None, n))
        unfolded.scale.assign(layer.scale)
        return unfolded

    def build(self, input_shape):
        if not self.dense.built:
            self.dense.build(input_shape)
        self.scale = self.add_weight((), "ones")

    def rows(self, name, inputs):
        return inputs

    def call(self, inputs):
        return self.scale * self.dense(inputs)


# to here


def test_a_layer_of_ones_own_is_registered_in_one_place(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((7, 12)), Scaled(name="own")])
    model.layers[0].scale.assign(3.0)
    small, report = compress(model, RoundingConfig(8, None), calibration_data=X)
    assert [x.layer_type for x in report.replaced] == ["Scaled"]
    assert isinstance(small.layers[0].dense, RoundedDense)
    change = as_numpy(small(X))[0] - as_numpy(model(X))[0]
    assert np.square(change).mean() < 1e-3
    save_model(small, tmp_path / "small.keras")
    assert_same(load_model(tmp_path / "small.keras"), small, X)


@pytest.mark.parametrize("wrong", [3, str])
def test_only_layers_are_registered(wrong):
    with pytest.raises(ValueError, match="`layer_class` must be a subclass"):
        keras_messi.register_layer(wrong)
    with pytest.raises(ValueError, match="must decorate a subclass"):
        keras_messi.register_layer(Scaled)(wrong)
