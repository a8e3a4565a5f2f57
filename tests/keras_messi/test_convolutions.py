"""Convolutions of all kinds, against those of Keras."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from keras import layers, ops
from numpy.testing import assert_allclose

from keras_messi.layers import (
    CompressedConv,
    CompressedGroupedConv,
    CompressedSeparableConv,
    MessiDense,
)
from keras_messi.layers.storage.factors import Factors
from keras_messi.layers.unfolded.convolutions import grouped_convolution
from keras_messi.layers.unfolded.convolutions.windows import Fold, best_row_axes
from keras_messi.layers.unfolded.table import unfold, why_not_unfolded

RNG = np.random.default_rng(0)
# More filters than places along any axis: where there are as many as along the last
# one, ops.add of TensorFlow adds a bias of channels_first to the wrong axis.
CHANNELS, FILTERS = 5, 17
SIZES = (7, 6, 5)
WINDOW = (3, 2, 2)
STEPS = [{}, {"strides": 2}, {"dilation_rate": 2}]


def cases():
    """Every kind, padding, step and format."""
    for rank, cls in enumerate((layers.Conv1D, layers.Conv2D, layers.Conv3D), 1):
        paddings = ["valid", "same"] + ["causal"] * (rank == 1)
        yield from itertools.product([cls], paddings, STEPS)
    for cls in (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose):
        yield from itertools.product([cls], ["valid", "same"], STEPS)
    for padding in ("valid", "same"):
        step = {"strides": 2, "output_padding": 1}
        yield layers.Conv2DTranspose, padding, step
    for cls in (layers.SeparableConv1D, layers.SeparableConv2D):
        yield from itertools.product([cls], ["valid", "same"], STEPS)


CASES = [
    pytest.param(cls, {"padding": padding, **step}, id=f"{cls.__name__}-{padding}-{i}")
    for i, (cls, padding, step) in enumerate(cases())
]
FORMATS = ["channels_last", "channels_first"]


def rank_of(cls):
    return int(cls.__name__.removesuffix("Transpose")[-2])


def built(cls, options, channels=CHANNELS, sizes=SIZES, window=WINDOW):
    """A layer with random weights, biases among them, and inputs for it."""
    rank = rank_of(cls)
    layer = cls(options.pop("filters", FILTERS), window[:rank], **options)
    shape = (2, *sizes[:rank], channels)
    x = RNG.standard_normal(shape).astype("float32")
    if layer.data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    layer.build(x.shape)
    for weight in layer.trainable_weights:
        weight.assign(RNG.standard_normal(weight.shape))
    return layer, x


def computed(layer, x):
    """Outputs of a layer of Keras, if the backend can."""
    try:
        return ops.convert_to_numpy(layer(x))
    except Exception as error:  # backends refuse in classes of their own
        pytest.skip(f"Keras can't: {error}")


def axes_of(layer):
    """All axes, and some, for the rows."""
    axes = tuple(range(layer.rank))
    return [axes, *(x for n in axes[1:] for x in itertools.combinations(axes, n))]


def unfoldings(layer):
    """All unfoldings of a layer."""
    if isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
        return [CompressedSeparableConv.unfold(layer)]
    return [CompressedConv.unfold(layer, axes) for axes in axes_of(layer)]


def assert_close(got, expected):
    scale = max(1, np.abs(expected).max())
    assert_allclose(ops.convert_to_numpy(got), expected, atol=1e-5 * scale)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(("cls", "options"), CASES)
def test_an_unfolded_layer_computes_the_same(cls, options, data_format):
    options = {**options, "data_format": data_format, "activation": "tanh"}
    layer, x = built(cls, options)
    expected = computed(layer, x)
    for unfolded in unfoldings(layer):
        assert_close(unfolded(x), expected)
        assert unfolded.compute_output_shape(x.shape) == expected.shape
        assert unfolded.count_params() == layer.count_params()


def with_factors(unfolded, layer, **options):
    """The same with random factors, and the layer of Keras with their product."""
    n, d = unfolded.dense.kernel.shape
    dense = MessiDense(d, rank=1, use_bias=unfolded.dense.use_bias, **options)
    dense.build((None, n))
    for weight in dense.trainable_weights:
        weight.assign(RNG.standard_normal(weight.shape))
    small = unfolded.with_dense({"dense": dense})
    kernel = Fold(layer.kernel_size, CHANNELS, FILTERS, small.row_axes).kernel(
        dense.kernel
    )
    is_transposed = "Transpose" in type(layer).__name__
    layer.set_weights(
        [
            ops.swapaxes(kernel, -1, -2) if is_transposed else kernel,
            small.bias if dense.bias is None else dense.bias,
        ]
    )
    return small


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(
    ("cls", "options"), [x for x in CASES if "Separable" not in x.id]
)
def test_factors_are_two_convolutions(cls, options, data_format, monkeypatch):
    layer, x = built(cls, {**options, "data_format": data_format})
    computed(layer, x)
    for axes in axes_of(layer):
        small = with_factors(CompressedConv.unfold(layer, axes), layer, num_clusters=2)
        expected = computed(layer, x)
        with monkeypatch.context() as patch:
            patch.delattr(Factors, "matrix")
            assert_close(small(x), expected)


@pytest.fixture
def _groups_may_be_small(monkeypatch):
    monkeypatch.setattr(grouped_convolution, "_FEWEST", 1)


GROUPED = [
    (layers.Conv1D, {"padding": "causal", "dilation_rate": 2, "groups": 3}),
    (layers.Conv2D, {"padding": "same", "strides": 2, "groups": 2}),
    (layers.Conv2D, {"groups": 2, "use_bias": False, "data_format": "channels_first"}),
    (layers.Conv3D, {"groups": 6}),
]


@pytest.mark.usefixtures("_groups_may_be_small")
@pytest.mark.parametrize(("cls", "options"), GROUPED)
def test_groups_are_convolutions_of_their_own(cls, options):
    layer, x = built(cls, {**options, "filters": 12, "activation": "tanh"}, channels=6)
    expected = computed(layer, x)
    unfolded = unfold(layer)
    names = [f"group_{i}" for i in range(options["groups"])]
    assert list(unfolded.dense_layers) == names
    assert_close(unfolded(x), expected)
    assert unfolded.compute_output_shape(x.shape) == expected.shape
    assert unfolded.count_params() == layer.count_params()


@pytest.mark.usefixtures("_groups_may_be_small")
def test_a_group_can_have_factors_and_the_others_not():
    options = {"groups": 2, "filters": 2 * FILTERS, "padding": "same"}
    layer, x = built(layers.Conv2D, options, channels=2 * CHANNELS)
    expected = computed(layer, x)
    grouped = unfold(layer)
    n, d = grouped.convolution("group_1").dense.kernel.shape
    dense = MessiDense(
        d,
        num_clusters=1,
        rank=1,
        use_bias=layer.rank == len(grouped.convolution("group_1").row_axes),
    )
    dense.build((None, n))
    small = grouped.with_dense({"group_1": dense})
    assert small.count_params() < layer.count_params()
    assert_close(small(x)[..., :FILTERS], expected[..., :FILTERS])
    again = CompressedGroupedConv.from_config(small.get_config())
    again.build(x.shape)
    again.set_weights(small.get_weights())
    assert_close(again(x), ops.convert_to_numpy(small(x)))


@pytest.mark.usefixtures("_groups_may_be_small")
def test_groups_are_compressed_and_calibrated_each_by_its_channels():
    layer, x = built(layers.Conv2D, {"groups": 2, "filters": 8}, channels=4)
    grouped = unfold(layer)
    halves = x[..., :2], x[..., 2:]
    for name, half in zip(grouped.dense_layers, halves, strict=True):
        conv = grouped.convolution(name)
        rows = grouped.rows(name, ops.convert_to_tensor(x))
        assert_allclose(rows, conv.rows("dense", ops.convert_to_tensor(half)))


def test_there_is_one_convolution_for_each_group():
    with pytest.raises(ValueError, match="0 convolutions for 2 groups"):
        CompressedGroupedConv([], layers.Conv2D(6, 3, groups=2))


@pytest.mark.parametrize(
    "options",
    [
        {"num_clusters": 1},
        {"num_clusters": 2, "side": "outputs"},
        {"num_clusters": 3, "cluster_sizes": [1, 6, 8]},
        {"num_clusters": 1, "lora_rank": 1},
    ],
    ids=str,
)
def test_all_forms_of_factors_are_multiplied(options):
    layer, x = built(layers.Conv2D, {"strides": 2, "padding": "same"})
    small = with_factors(CompressedConv.unfold(layer, [0]), layer, **options)
    assert_close(small(x), computed(layer, x))
    assert small.has_two_kernels


def test_factors_that_take_more_products_than_the_matrix_are_multiplied_out():
    layer, x = built(layers.Conv2D, {})
    unfolded = CompressedConv.unfold(layer, [0, 1])
    n, d = unfolded.dense.kernel.shape
    dense = MessiDense(d, num_clusters=1, rank=d)
    dense.build((None, n))
    kernel = ops.convert_to_numpy(unfolded.dense.kernel)
    dense.load_own_variables(
        {"coordinates_0": kernel, "bases": np.eye(d), "bias": unfolded.dense.bias}
    )
    small = unfolded.with_dense({"dense": dense})
    assert not small.has_two_kernels
    assert_close(small(x), computed(layer, x))


@pytest.mark.parametrize(("cls", "options"), CASES)
def test_rows_times_the_unfolding_are_the_outputs(cls, options):
    """Summed over the axes that are in the columns, with their shifts."""
    layer, x = built(cls, {**options, "data_format": "channels_last"})
    expected = computed(layer, x)
    for unfolded in unfoldings(layer):
        rows = unfolded.rows("dense", inputs=ops.convert_to_tensor(x))
        products = ops.convert_to_numpy(unfolded.dense(rows))
        if len(getattr(unfolded, "row_axes", "123")) < layer.rank:
            products = summed_over_shifts(products, unfolded)
        assert_close(products, expected)


def summed_over_shifts(products, unfolded):
    """Outputs of products `(..., window * filters)`, by a kernel of zeros and ones."""
    width = products.shape[-1]
    _, fold = unfolded.folds(width)
    kernel = fold.kernel(np.eye(width, dtype="float32"))
    axes = [i for i in range(len(fold.window)) if i not in fold.row_axes]
    outputs = unfolded._convolve(products, kernel, axes, "channels_last")
    return outputs + unfolded.bias


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("row_axes", "height", "width"), [([0, 1], 3, 2), ([0], 3, 1), ([1], 1, 2)]
)
def test_rows_are_patches(row_axes, height, width, padding):
    layer, x = built(layers.Conv2D, {"strides": (2, 1), "padding": padding})
    unfolded = CompressedConv.unfold(layer, row_axes)
    rows = ops.convert_to_numpy(unfolded.rows("dense", ops.convert_to_tensor(x)))
    step = 2 if height == 3 else 1
    if padding == "same":
        x = np.pad(x, ((0, 0), (height // 2, height // 2), (0, width - 1), (0, 0)))
    for i, j in np.ndindex(rows.shape[1:3]):
        patch = x[:, step * i : step * i + height, j : j + width]
        assert_allclose(rows[:, i, j], patch.reshape(len(x), -1), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_convolution_is_unfolded(data):
    draw = data.draw
    cls = draw(st.sampled_from([layers.Conv2D, layers.Conv2DTranspose]))
    sizes = st.integers(1, 3)
    step = draw(st.sampled_from(["strides", "dilation_rate"]))
    options = {
        "filters": draw(sizes),
        "padding": draw(st.sampled_from(["valid", "same"])),
        "use_bias": draw(st.booleans()),
        step: (draw(sizes), draw(sizes)) if cls is layers.Conv2D else draw(sizes),
    }
    sizes_of_inputs = draw(st.integers(7, 9)), draw(st.integers(7, 9))
    window = draw(sizes), draw(sizes)
    layer, x = built(cls, options, draw(sizes), sizes_of_inputs, window)
    try:
        expected = ops.convert_to_numpy(layer(x))
    except Exception:  # not all processors convolve with each dilation
        reject()
    for axes in axes_of(layer):
        assert_close(CompressedConv.unfold(layer, axes)(x), expected)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_folding_a_kernel_turns_its_unfolding_back(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=3, max_size=5))
    kernel = RNG.standard_normal(shape)
    axes = data.draw(st.sets(st.sampled_from(range(len(shape) - 2))))
    fold = Fold(tuple(shape[:-2]), *shape[-2:], tuple(sorted(axes)))
    matrix = fold.matrix(kernel)
    assert matrix.size == kernel.size
    assert len(matrix) == math.prod([shape[i] for i in axes]) * shape[-2]
    assert np.array_equal(fold.kernel(matrix), kernel)


def test_the_best_axes_have_the_least_error_at_half_of_the_numbers():
    separable = np.einsum(
        "icr,jrf->ijcf",
        RNG.standard_normal((3, 8, 4)),
        RNG.standard_normal((3, 4, 8)),
    )
    usual = np.einsum(
        "ijcr,rf->ijcf",
        RNG.standard_normal((5, 5, 8, 3)),
        RNG.standard_normal((3, 8)),
    )
    assert best_row_axes(separable) == (0,)
    assert best_row_axes(separable.swapaxes(0, 1)) == (1,)
    assert best_row_axes(usual) == (0, 1)
    assert best_row_axes(np.zeros((3, 3, 8, 8))) == (0, 1)
    assert best_row_axes(RNG.standard_normal((5, 8, 8))) == (0,)


def test_a_convolution_of_one_place_is_a_dense_layer():
    layer, x = built(layers.Conv2D, {"strides": 2}, window=(1, 1))
    unfolded = unfold(layer)
    assert unfolded.dense.kernel.shape == (CHANNELS, FILTERS)
    rows = unfolded.rows("dense", ops.convert_to_tensor(x))
    assert_allclose(rows, x[:, ::2, ::2])
    assert_close(unfolded(x), computed(layer, x))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.Conv2D(6, 3, groups=2), "2 groups are too small to pay"),
        (layers.Conv2D(4, 3, groups=4), "4 groups are too small to pay"),
        (layers.Conv2D(6, 3, kernel_constraint="max_norm"), "constraint"),
        (layers.SeparableConv2D(6, 3, pointwise_constraint="max_norm"), "constraint"),
        (layers.DepthwiseConv1D(3), "too small to pay"),
        (layers.DepthwiseConv2D(3), "too small to pay"),
        (layers.Conv1D(6, 3, lora_rank=2), "LoRA"),
        (layers.BatchNormalization(), "its weights are vectors"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_what_is_left_says_why(layer, reason):
    layer = type(layer).from_config(layer.get_config())
    layer.build((None, 8, 4) if "1D" in type(layer).__name__ else (None, 8, 8, 4))
    assert unfold(layer) is None
    assert reason in why_not_unfolded(layer)


@pytest.mark.parametrize(
    ("layer", "row_axes", "message"),
    [
        (layers.Conv2D(6, 3), [], "`row_axes` must be"),
        (layers.Conv2D(6, 3), [2], "`row_axes` must be"),
        (layers.Conv2D(6, 3), [1, 0], "`row_axes` must be"),
        (layers.Conv2D(6, 3), [0.5], "`row_axes` must be"),
        (layers.Conv2D(6, 3, groups=2), [0], "`layer` must convolve in one group"),
    ],
)
def test_arguments_are_checked(layer, row_axes, message):
    with pytest.raises(ValueError, match=message):
        CompressedConv(layers.Dense(6), layer, row_axes)


def test_a_dense_layer_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"`dense` must have a kernel of shape"):
        CompressedConv(layers.Dense(7), layers.Conv2D(6, 3), [0, 1])(
            np.ones((1, 4, 4, 5))
        )
    dense = layers.Dense(6)
    dense.build((None, 44))
    with pytest.raises(ValueError, match=r"`dense` must have a kernel of shape"):
        CompressedConv(dense, layers.Conv2D(6, 3), [0, 1])(np.ones((1, 4, 4, 5)))


def test_inputs_of_other_channels_are_refused():
    layer, x = built(layers.Conv2D, {})
    with pytest.raises(ValueError, match="incompatible"):
        unfold(layer)(x[..., :2])
