"""Exported ONNX files: as small as saved models, and tried before they are there."""

import sys
from itertools import product

import keras
import numpy as np
import pytest

from keras_messi import export, layers, save_model
from keras_messi.layers.numbers.levels import round_to_levels
from tests.keras_messi.test_exporting import FORMATS

if "onnx" not in FORMATS:
    pytest.skip("Keras writes no ONNX on this backend", allow_module_level=True)
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

INPUTS, UNITS = 512, 256
# Activation, bias, and what the layer stores.
KINDS = [
    *product(["relu"], [None, "zeros", "normal"], ["int8", "int4", "8 bits", "4 bits"]),
    *product(["relu6", "gelu", "silu", "tanh", "softmax", None], [None], ["4 bits"]),
]


def filled(layer, shape):
    """A layer of random factors, of the size of trained ones, in integers or not."""
    mode = layer.storage.quantization
    plain = type(layer).from_config({**layer.get_config(), "quantization": None})
    plain.build(shape)
    if mode:
        plain.quantize(mode)
    return plain


def dense(activation, bias, stored):
    """A Dense layer of two clusters in integers, or of all numbers in a few bits."""
    options = {"activation": activation, "use_bias": bias is not None}
    options["bias_initializer"] = bias or "zeros"
    if stored in ("int8", "int4"):
        layer = layers.MessiDense(UNITS, 2, rank=12, quantization=stored, **options)
        return filled(layer, (None, INPUTS))
    kernel = np.random.default_rng(0).standard_normal((UNITS, INPUTS)) / INPUTS**0.5
    bits = int(stored[0])
    layer = layers.RoundedDense(UNITS, bits, **options)
    layer.build((None, INPUTS))
    codes, scales = round_to_levels(kernel, bits, "uniform", INPUTS)
    layer.storage.codes.assign(codes)
    layer.storage.scales.assign(scales)
    return layer


def run(path, *arrays):
    session = onnxruntime.InferenceSession(path)
    names = [x.name for x in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def operators(path):
    """What the nodes of a file are called, and sets of operators that it asks for."""
    model = onnx.load(path)
    kinds = {node.op_type for node in model.graph.node}
    return kinds, {x.domain for x in model.opset_import}


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory):
    """Outputs of a model with a layer of each kind: of the file, and of the model."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((INPUTS,))
    outputs = [dense(*kind)(inputs) for kind in KINDS]
    model = keras.Model(inputs, outputs)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export(model, path)
    x = np.random.default_rng(0).standard_normal((6, INPUTS)).astype("float32")
    want = [keras.ops.convert_to_numpy(y) for y in model(x)]
    return dict(zip(KINDS, zip(run(path, x), want, strict=True), strict=True)), path


def test_no_activation_and_no_bias_is_lost(all_kinds):
    for kind, (got, want) in all_kinds[0].items():
        distance = np.linalg.norm(got - want) / np.linalg.norm(want)
        assert distance < 0.03, kind


def test_a_relu_leaves_nothing_below_zero(all_kinds):
    for (activation, *_), (got, _) in all_kinds[0].items():
        if activation in ("relu", "relu6"):
            assert got.min() == 0


def test_files_hold_standard_operators_only(all_kinds):
    kinds, domains = operators(all_kinds[1])
    assert "MatMulInteger" in kinds
    assert kinds & {"Erf", "Gelu"}  # of TensorFlow, and of torch
    assert "Erfc" not in kinds
    assert domains <= {"", "ai.onnx.ml"}


def recommender(mode):
    """Three tables, one of them looked up twice, and three Dense layers."""
    user = keras.Input((1,), dtype="int32", name="user")
    items = keras.Input((5,), dtype="int32", name="items")
    users, things = (
        filled(layers.MessiEmbedding(n, 32, 3, rank=8, quantization=mode), (None,))
        for n in (300, 200)
    )
    x = [keras.layers.Flatten()(y) for y in (users(user), things(items))]
    x.append(keras.layers.GlobalAveragePooling1D()(things(items)))
    x = keras.layers.Concatenate()(x)
    hidden = layers.MessiDense(64, 2, rank=16, activation="relu", quantization=mode)
    x = filled(hidden, x.shape)(x)
    return keras.Model([user, items], keras.layers.Dense(1, "sigmoid", name="head")(x))


@pytest.mark.parametrize("tables", ["stored", "decoded"])
def test_a_recommender_of_integers_computes_the_same(tables, tmp_path):
    model = recommender("int8")
    path = tmp_path / "model.onnx"
    export(model, path, tables=tables)
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 200, (4, n)).astype("int32") for n in (1, 5)]
    want = keras.ops.convert_to_numpy(model(ids))
    np.testing.assert_allclose(run(path, *ids)[0], want, rtol=1e-5)


def tied(kind, **arguments):
    """A table that is looked up and, transposed, multiplied by."""
    tokens = keras.Input((4,), dtype="int32")
    table = kind(2000, 64, **arguments)
    hidden = keras.layers.Dense(64, name="hidden")(table(tokens))
    return keras.Model(tokens, table(hidden, reverse=True))


TABLES = {
    "floats": (keras.layers.ReversibleEmbedding, {}),
    "float factors": (layers.MessiEmbedding, {"num_clusters": 5, "rank": 16}),
    "codes": (layers.PQEmbedding, {"block_size": 4, "num_codewords": 256}),
    "coded": (
        layers.MessiPQEmbedding,
        {"num_clusters": 5, "rank": 16, "block_size": 4, "num_codewords": 256},
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_tied_table_is_in_the_file_once_and_small(kind, tmp_path):
    keras.utils.set_random_seed(0)
    layer, arguments = TABLES[kind]
    model = tied(layer, **arguments)
    save_model(model, tmp_path / "model.keras")
    export(model, tmp_path / "model.onnx")
    saved, exported = (
        (tmp_path / f"model.{suffix}").stat().st_size for suffix in ("keras", "onnx")
    )
    assert exported < 1.1 * saved


@keras.saving.register_keras_serializable(package="tests")
class Counting(keras.layers.Layer):
    """What adds the number of its calls."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs + self.calls


def test_a_file_that_computes_something_else_is_not_left(tmp_path):
    inputs = keras.Input((INPUTS,))
    model = keras.Model(inputs, Counting()(dense("relu", None, "int8")(inputs)))
    with pytest.raises(ValueError, match="must compute what the model does.*differs"):
        export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_old_file_stays_when_the_new_one_fails(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"precious")
    inputs = keras.Input((INPUTS,))
    with pytest.raises(ValueError, match="must compute what the model does"):
        export(keras.Model(inputs, Counting()(inputs)), path, overwrite=True)
    assert path.read_bytes() == b"precious"


def test_an_operation_that_onnx_lacks_is_named(tmp_path):
    if keras.backend.backend() == "torch":
        pytest.skip("torch names the operation itself")
    inputs = keras.Input((4,))

    @keras.saving.register_keras_serializable(package="tests")
    class Noisy(keras.layers.Layer):
        def call(self, inputs):
            return inputs + keras.random.normal(keras.ops.shape(inputs))

        def compute_output_shape(self, input_shape):
            return input_shape

    with pytest.raises(ValueError, match="no operator for .*Random.* Leave"):
        export(keras.Model(inputs, Noisy()(inputs)), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_runtime_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ImportError, match=r'pip install "kprojclust\[export\]"'):
        export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options", [{"activations": "int4"}, {"tables": "gather"}], ids=str
)
def test_options_are_checked_before_any_work(options, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` must be one of"):
        export(model, tmp_path / "model.onnx", **options)


def test_a_layer_that_stays_large_is_named(tmp_path):
    inputs = keras.Input((INPUTS,))
    turned = layers.RoundedDense(64, bits=4, rotation=0, name="turned")
    model = keras.Model(inputs, turned(inputs))
    with pytest.warns(UserWarning, match="layer turned .* rotation takes more"):
        export(model, tmp_path / "model.onnx")
