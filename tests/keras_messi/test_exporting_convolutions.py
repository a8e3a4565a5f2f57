"""Files of convolutions: kernels in the forms of their matrices."""

import warnings

import keras
import numpy as np
import pytest

from keras_messi import export
from keras_messi.exporting import worth
from keras_messi.exporting.forecast import forecast_sizes
from keras_messi.layers import CompressedConv
from tests.keras_messi.small_layers import KINDS, D, N, small_layer

if keras.backend.backend() != "tensorflow":
    pytest.skip("These are written by TensorFlow", allow_module_level=True)

import onnx

from keras_messi.exporting.litert.graph import File

SUFFIXES = [".onnx", ".tflite"]
ROWS = {
    keras.layers.Conv1D: (3, [0]),
    keras.layers.Conv2D: ((3, 2), [0]),
    keras.layers.Conv2DTranspose: ((2, 3), [1]),
    keras.layers.Conv3D: ((3, 1, 2), [0]),
}


def convolution(cls, dense, **options):
    """One whose matrix is that of a Dense layer, and inputs for it."""
    window, row_axes = ROWS[cls]
    channels = N // 3
    filters = D if cls is keras.layers.Conv1D else D // 2
    layer = cls(filters, window, use_bias=dense.use_bias, **options)
    inputs = keras.Input((*[7] * layer.rank, channels))
    return inputs, CompressedConv(dense, layer, row_axes)(inputs)


def dense_for(cls, kind):
    return small_layer(kind, True, use_bias=cls is keras.layers.Conv1D)


@pytest.fixture(scope="module", autouse=True)
def _small_matrices_change():
    """Let matrices be changed that are too small to be worth it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "_WORTH_CHANGING", 0)
        yield


def exported(model, folder, suffix):
    """A file, which was compared with the model when it was written."""
    path = folder / f"model{suffix}"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The file is larger than it could be")
        warnings.filterwarnings("error", "The file was not compared")
        export(model, path, activations="float32")
    return path


def operations(path):
    """Names of the operations that use kernels in a file."""
    if path.suffix == ".onnx":
        names = [node.op_type for node in onnx.load(path).graph.node]
    else:
        file = File(path.read_bytes())
        codes = [x.opcodeIndex for x in file._model.subgraphs[0].operators]
        names = [file.operation(code) for code in codes]
    return [name for name in names if "Conv" in name or "CONV" in name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("cls", "kinds"),
    [
        (keras.layers.Conv1D, KINDS[::5]),
        pytest.param(keras.layers.Conv2D, KINDS, marks=pytest.mark.slow),
        (keras.layers.Conv2DTranspose, KINDS[1::8]),
        (keras.layers.Conv3D, KINDS[2::8]),
    ],
)
def test_kernels_of_all_kinds_are_found_in_files(cls, kinds, suffix, tmp_path):
    pairs = [convolution(cls, dense_for(cls, kind)) for kind in kinds]
    inputs, outputs = zip(*pairs, strict=True)
    exported(keras.Model(inputs, outputs), tmp_path, suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_two_factors_are_two_convolutions(quantization, suffix, tmp_path):
    dense = small_layer("one cluster", True, use_bias=False, quantization=quantization)
    inputs, outputs = convolution(keras.layers.Conv2D, dense, padding="same")
    path = exported(keras.Model(inputs, outputs), tmp_path, suffix)
    assert len(operations(path)) == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_kernels_are_found_that_a_normalization_was_multiplied_into(suffix, tmp_path):
    dense = small_layer("8 bits", True, use_bias=False)
    inputs, outputs = convolution(keras.layers.Conv2D, dense)
    norm = keras.layers.BatchNormalization()
    model = keras.Model(inputs, norm(outputs))
    rng = np.random.default_rng(0)
    norm.set_weights([rng.uniform(0.5, 2, w.shape) for w in norm.weights])
    exported(model, tmp_path, suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_are_as_small_as_forecast(suffix, tmp_path):
    layer = keras.layers.Conv2D(64, 3)
    inputs = keras.Input((7, 7, 64))
    dense = keras.layers.Dense(64)
    dense.build((None, 9 * 64))
    dense.quantize(
        "int8",
        config=keras.quantizers.Int8QuantizationConfig(activation_quantizer=None),
    )
    model = keras.Model(inputs, CompressedConv(dense, layer, [0, 1])(inputs))
    size = exported(model, tmp_path, suffix).stat().st_size
    name = {".onnx": "onnx", ".tflite": "litert"}[suffix]
    assert size < 2 * 9 * 64 * 64 < 4 * 9 * 64 * 64
    assert forecast_sizes(model)[name] == pytest.approx(size, rel=0.1)
