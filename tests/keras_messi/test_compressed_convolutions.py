"""Models with convolutions: by all methods, saved, trained."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.testing import assert_allclose

import keras_messi
from keras_messi import (
    BudgetConfig,
    EntropyCodingConfig,
    MessiConfig,
    PQConfig,
    RoundingConfig,
    compress,
    load_model,
    save_model,
)
from keras_messi.cli.commands import main
from keras_messi.layers.replacement import copy_layer
from keras_messi.models.keras.surgery import find_layers, replace_layers
from keras_messi.training.quant_noise import add_quant_noise, remove_quant_noise

X = np.random.default_rng(0).standard_normal((16, 10, 10, 4)).astype("float32")
# Layers by name, with the shapes of the matrices that they can be.
SHAPES = {
    "same": [(12, 24), (36, 8)],
    "strided": [(24, 48), (72, 16)],
    "separable": [(16, 16)],
    "point": [(16, 24)],
    "up": [(48, 32), (96, 16)],
    "causal": [(48, 12)],
    "head": [(12, 10)],
}
CONFIGS = [
    MessiConfig(rate=0.3, num_clusters=2, scope="layer"),
    MessiConfig(rate=0.3, num_clusters=2, scope="model", quantization="int8"),
    MessiConfig(rate=0.2, num_clusters=1, scope="layer", sequential=True),
    RoundingConfig(4, None),
    PQConfig(block_size=2, num_codewords=8),
    EntropyCodingConfig(),
]


@pytest.fixture(scope="module")
def model():
    """Convolutions of several kinds."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(X.shape[1:])
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="same")(inputs)
    x = layers.Conv2D(16, 3, strides=2, use_bias=False, name="strided")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.SeparableConv2D(16, 3, padding="same", name="separable")(x)
    x = layers.Conv2D(24, 1, activation="relu", name="point")(x)
    x = layers.Conv2DTranspose(16, 2, strides=2, activation="relu", name="up")(x)
    x = layers.Reshape((-1, 16))(x)
    x = layers.Conv1D(12, 3, padding="causal", dilation_rate=2, name="causal")(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(10, name="head")(x))
    rng = np.random.default_rng(0)
    norm = model.get_layer("norm")
    norm.set_weights([rng.uniform(0.5, 2, w.shape) for w in norm.weights])
    return model


@pytest.fixture(scope="module")
def small(model):
    return compress(model, MessiConfig(rate=0.4, num_clusters=2, scope="layer"))[0]


def computed(model, **options):
    return ops.convert_to_numpy(model(X, **options))


def relative_change(small, model):
    want = computed(model)
    return np.square(computed(small) - want).mean() / want.var()


def test_convolutions_are_shown_by_their_matrices(model):
    found = {x.path: x for x in find_layers(model) if x.path in SHAPES}
    assert list(found) == list(SHAPES)
    assert all(found[x].layer.kernel.shape in shapes for x, shapes in SHAPES.items())
    assert found["up"].layer_type == "Conv2DTranspose"


def test_a_copy_with_unfolded_layers_computes_the_same(model):
    new = {x.layer: copy_layer(x.layer) for x in find_layers(model) if x.path in SHAPES}
    same = replace_layers(model, new)
    assert_allclose(computed(same), computed(model), atol=1e-5)
    assert same.count_params() == model.count_params()


@pytest.mark.filterwarnings("ignore:The outputs of the new model:UserWarning")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda x: type(x).__name__)
def test_all_methods_take_convolutions(model, config, tmp_path):
    small, report = compress(model, config, calibration_data=X)
    assert {x.path for x in report.replaced} <= set(SHAPES)
    assert {"strided", "up"} <= {x.path for x in report.replaced}
    assert all(x.output_error is not None for x in report.replaced)
    save_model(small, tmp_path / "small.keras")
    loaded = load_model(tmp_path / "small.keras")
    assert np.array_equal(computed(loaded), computed(small))


def test_a_budget_in_bytes_is_kept():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10, 10, 16))
    x = layers.Conv2D(64, 3, activation="relu", name="wide")(inputs)
    model = keras.Model(inputs, layers.Conv2D(32, 3, name="narrow")(x))
    data = np.random.default_rng(0).standard_normal((8, 10, 10, 16)).astype("float32")
    config = BudgetConfig(times_smaller=2)
    small, report = compress(model, config, calibration_data=data)
    assert {x.path for x in report.replaced} == {"wide", "narrow"}
    assert report.file_bytes_after <= report.file_bytes_before / 2
    want = ops.convert_to_numpy(model(data))
    change = ops.convert_to_numpy(small(data)) - want
    assert np.square(change).mean() < 0.05 * want.var()


def test_calibration_lowers_the_error_of_outputs_on_other_inputs(model):
    config = MessiConfig(rate=0.6, num_clusters=1, scope="layer")
    plain, _ = compress(model, config, "strided")
    data = np.random.default_rng(1).standard_normal((64, *X.shape[1:]))
    better, _ = compress(model, config, "strided", calibration_data=data)
    assert relative_change(better, model) < relative_change(plain, model)


def test_factors_are_quantized_and_trained(small):
    quantized = keras_messi.quantize(small, "int8")
    assert relative_change(quantized, small) < 1e-3
    floats = keras_messi.dequantize(quantized)
    assert relative_change(floats, quantized) < 1e-6
    floats.compile("adam", "mse")
    before = [np.array(w) for w in floats.trainable_weights]
    floats.fit(X, np.ones((len(X), 10)), verbose=0)
    pairs = zip(before, floats.trainable_weights, strict=True)
    assert [w.path for x, w in pairs if np.array_equal(x, w)] == []


def test_layers_that_keras_quantized_are_multiplied_out(model):
    for mode in ("int8", "int4"):
        new = {}
        for named in find_layers(model):
            if named.path in ("same", "causal"):
                new[named.layer] = copy_layer(named.layer)
                new[named.layer].quantize(mode, config=weights_only(mode))
        assert relative_change(replace_layers(model, new), model) < 0.05


def weights_only(mode):
    if mode == "int8":
        return keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    return keras.quantizers.Int4QuantizationConfig(
        activation_quantizer=None, block_size=8
    )


def test_noise_is_trained_with(model):
    noisy = add_quant_noise(model, "same|up|causal", rate=0.5, block_size=4, seed=0)
    assert_allclose(computed(noisy), computed(model), atol=1e-5)
    assert not np.allclose(computed(noisy, training=True), computed(model))
    noisy.compile("adam", "mse")
    before = [np.array(w) for w in noisy.trainable_weights]
    noisy.fit(X, np.ones((len(X), 10)), verbose=0)
    pairs = zip(before, noisy.trainable_weights, strict=True)
    assert [w.path for x, w in pairs if np.array_equal(x, w)] == []
    removed = remove_quant_noise(noisy)
    assert_allclose(computed(removed), computed(noisy), atol=1e-5)


def test_mixed_precision_computes_in_float16():
    inputs = keras.Input(X.shape[1:])
    layer = layers.Conv2D(8, 3, dtype="mixed_float16", name="conv")
    model = keras.Model(inputs, layer(inputs))
    small, _ = compress(model, MessiConfig(rate=0.2, num_clusters=1, scope="layer"))
    assert computed(small).dtype == "float16"
    assert relative_change(small, model) < 0.3


def test_groups_are_compressed_saved_and_exported(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(X.shape[1:])
    wide = layers.Conv2D(16, 1, name="wide")(inputs)
    conv = layers.Conv2D(48, 3, groups=2, padding="same", strides=2, name="conv")
    model = keras.Model(inputs, layers.ReLU()(conv(wide)))
    config = MessiConfig(rate=0.4, num_clusters=1, scope="layer")
    small, report = compress(model, config, "conv", calibration_data=X)
    assert [x.path for x in report.replaced] == ["conv/group_0", "conv/group_1"]
    assert relative_change(small, model) < 0.5  # of random weights
    save_model(small, tmp_path / "small.keras")
    loaded = load_model(tmp_path / "small.keras")
    assert np.array_equal(computed(loaded), computed(small))
    if keras.backend.backend() == "tensorflow":
        for name in ("small.onnx", "small.tflite"):
            keras_messi.export(small, tmp_path / name)  # compares the outputs


def test_the_command_line_tells_of_convolutions(small, tmp_path, capsys):
    save_model(small, tmp_path / "small.keras")
    main(["inspect", str(tmp_path / "small.keras")])
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("strided")]
    assert line.split()[1] == "MessiDense"
