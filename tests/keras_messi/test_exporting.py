"""Exported files, run by what runs them elsewhere."""

import os
import sys

import keras
import numpy as np
import pytest

from keras_messi import (
    MessiConfig,
    PQConfig,
    RoundingConfig,
    compress,
    export,
    load_model,
    quantize,
    save_model,
)
from tests.keras_messi import models
from tests.keras_messi.small_layers import KINDS, N, small_layer
from tests.keras_messi.test_saving import run_python

BACKEND = keras.backend.backend()
FORMATS = {
    "tensorflow": {"tf_saved_model": "", "litert": ".tflite", "onnx": ".onnx"},
    "jax": {"tf_saved_model": ""},
    "torch": {"onnx": ".onnx"},
}[BACKEND]
each_format = pytest.mark.parametrize("format", FORMATS)


def classifier():
    """Words, positions and a gelu: what a small text model has."""
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(200, 24, name="words")(tokens)
    x = keras.layers.Dense(40, activation="gelu", name="up")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    x = keras.layers.Dense(30, activation="relu", name="hidden")(x)
    return keras.Model(tokens, keras.layers.Dense(3, name="head")(x))


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)
    return compress(classifier(), MessiConfig(rate=0.3, num_clusters=3, scope="layer"))[
        0
    ]


@pytest.fixture(scope="module")
def outputs_clustered():
    keras.utils.set_random_seed(0)
    config = MessiConfig(rate=0.3, num_clusters=3, scope="layer", side="outputs")
    return compress(classifier(), config, ["up", "hidden"])[0]


def run_saved_model(path, x):
    tf = pytest.importorskip("tensorflow")
    loaded = tf.saved_model.load(path)
    return loaded.serve(x).numpy()


def run_litert(path, x):
    interpreter = litert_interpreter(path)
    (tokens,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(tokens["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(tokens["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def litert_interpreter(path):
    tf = pytest.importorskip("tensorflow")
    # It says that another package will have this class one day.
    with pytest.warns(UserWarning, match="LiteRT"):
        return tf.lite.Interpreter(path)


def run_onnx(path, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


RUNNERS = {"tf_saved_model": run_saved_model, "litert": run_litert, "onnx": run_onnx}


def exported(model, folder, format, **options):
    path = folder / f"model{FORMATS[format]}"
    export(model, path, format, **options)
    return str(path)


@each_format
def test_the_file_computes_what_the_model_computes(small, tmp_path, format):
    assert_same_outputs(small, tmp_path, format)


@each_format
def test_the_file_of_clustered_outputs_computes_the_same(
    outputs_clustered, tmp_path, format
):
    assert_same_outputs(outputs_clustered, tmp_path, format)


def assert_same_outputs(model, folder, format):
    """The file and the model give the same for a few texts."""
    x = np.random.default_rng(0).integers(0, 200, (5, 6)).astype("int32")
    path = exported(model, folder, format, activations="float32")
    got = RUNNERS[format](path, x)
    want = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(got, want, atol=1e-5)


@each_format
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_the_file_of_a_quantized_model_computes_the_same(small, tmp_path, format, mode):
    assert_same_outputs(quantize(small, mode), tmp_path, format)


@each_format
def test_a_loaded_model_that_was_never_called_is_exported(tmp_path, format):
    save_model(models.sequential(), tmp_path / "model.keras")
    model = load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((1, 40)).astype("float32")
    got = RUNNERS[format](exported(model, tmp_path, format), x)
    want = keras.ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="LiteRT is written by TensorFlow")
def test_litert_holds_builtin_operations_only(small, tmp_path):
    interpreter = litert_interpreter(exported(small, tmp_path, "litert"))
    interpreter.allocate_tensors()
    operations = {op["op_name"] for op in interpreter._get_ops_details()}
    assert "GATHER" in operations
    assert not [name for name in operations if "Flex" in name or "CUSTOM" in name]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="LiteRT is written by TensorFlow")
def test_an_operation_that_litert_lacks_is_named(tmp_path):
    import tensorflow as tf

    @keras.saving.register_keras_serializable(package="tests")
    class Printed(keras.layers.Layer):
        def call(self, inputs):
            return tf.strings.to_number(tf.strings.as_string(inputs))

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Printed()(inputs))
    with pytest.raises(ValueError, match="no built-in operation.*AsString"):
        export(model, tmp_path / "model.tflite", "litert")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="as Keras writes it elsewhere")
def test_a_saved_model_holds_each_weight_once(tmp_path):
    tokens = keras.Input((6,), dtype="int32")
    made = [small_layer(kind, False, name=f"layer_{i}") for i, kind in enumerate(KINDS)]
    model = keras.Model(tokens, [layer(tokens) for layer in made])
    x = np.random.default_rng(0).integers(0, N, (2, 6)).astype("int32")
    export(model, tmp_path / "model")
    import tensorflow as tf

    loaded = tf.saved_model.load(tmp_path / "model")
    for kind, got, want in zip(KINDS, loaded.serve(x), model(x), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4, err_msg=kind)
    (data,) = (tmp_path / "model" / "variables").glob("*.data*")
    index = tf.train.load_checkpoint(tmp_path / "model" / "variables" / "variables")
    graph = len(index.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    weights = sum(variable.value.numpy().nbytes for variable in model.variables)
    assert data.stat().st_size - graph <= 1.01 * weights


@each_format
def test_what_exists_needs_overwrite(small, tmp_path, format):
    path = exported(small, tmp_path, format)
    with pytest.raises(FileExistsError, match="must not exist yet"):
        export(small, path, format)
    export(small, path, format, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif("tf_saved_model" not in FORMATS, reason="needs TensorFlow")
def test_a_folder_with_other_files_is_never_overwritten(small, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(FileExistsError, match=r"one with saved_model\.pb"):
        export(small, tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "precious"


def test_bad_formats_are_refused(small, tmp_path):
    with pytest.raises(ValueError, match="`format` must be one of.*'pickle'"):
        export(small, tmp_path / "model", "pickle")
    with pytest.raises(ValueError, match=r'unless .* ends in ".tflite" or .*model\.pb'):
        export(small, tmp_path / "model.pb")
    with pytest.raises(ValueError, match=r'must end in ".onnx"'):
        export(small, tmp_path / "model.pb", "onnx")
    with pytest.raises(FileNotFoundError, match="the output folder must exist"):
        export(small, tmp_path / "no" / "model.onnx", "onnx")


@pytest.mark.skipif(BACKEND == "torch", reason="torch writes ONNX by itself")
def test_a_missing_package_is_named(small, tmp_path, monkeypatch):
    for name in ("tf2onnx", "tf2onnx.handler"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "kprojclust\[export\]"'):
        export(small, tmp_path / "model.onnx", "onnx")
    assert not list(tmp_path.iterdir())


INTERRUPTED = """
    import os, signal, sys
    import keras, keras_messi

    class Last(keras.layers.Layer):
        def call(self, inputs):
            if armed:
                os.kill(os.getpid(), signal.SIGINT)
            return inputs

    for path, format in zip(sys.argv[1::2], sys.argv[2::2]):
        armed = False
        inputs = keras.Input((4,))
        model = keras.Model(inputs, Last()(inputs))
        armed = True
        try:
            keras_messi.export(model, path, format, overwrite=True)
        except KeyboardInterrupt:
            print(format)
"""


@pytest.mark.slow
def test_an_interrupt_keeps_the_old_file(small, tmp_path):
    arguments = []
    for format in FORMATS:
        (tmp_path / format).mkdir()
        arguments += [exported(small, tmp_path / format, format), format]
    result = run_python(INTERRUPTED, *arguments)
    assert result.stdout.split() == list(FORMATS), result.stderr
    x = np.zeros((1, 6), "int32")
    want = keras.ops.convert_to_numpy(small(x, training=False))
    for path, format in zip(arguments[::2], FORMATS, strict=True):
        assert len(os.listdir(tmp_path / format)) == 1
        np.testing.assert_allclose(RUNNERS[format](path, x), want, atol=1e-5)


@each_format
def test_a_full_disk_keeps_the_old_file(small, tmp_path, format):
    resource = pytest.importorskip("resource")
    path = exported(small, tmp_path, format)
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, most))
    try:
        with pytest.raises(OSError, match="File too large"):
            export(small, path, format, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert len(list(tmp_path.iterdir())) == 1
    x = np.zeros((1, 6), "int32")
    want = keras.ops.convert_to_numpy(small(x, training=False))
    np.testing.assert_allclose(RUNNERS[format](path, x), want, atol=1e-5)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_nothing_may_be_written_to_is_named(small, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=tmp_path.name):
        exported(small, tmp_path, next(iter(FORMATS)))
    tmp_path.chmod(0o700)


def test_the_model_looks_up_as_before_after_an_export(small, tmp_path):
    x = models.inputs_of(small)
    before = keras.ops.convert_to_numpy(small(x))
    exported(small, tmp_path, next(iter(FORMATS)))
    assert np.array_equal(keras.ops.convert_to_numpy(small(x)), before)


@each_format
def test_the_file_of_a_model_of_codes_computes_the_same(tmp_path, format):
    small, report = compress(classifier(), PQConfig(block_size=4, num_codewords=16))
    assert {row.layer_type for row in report.replaced} == {"Dense", "Embedding"}
    assert_same_outputs(small, tmp_path, format)


@pytest.fixture(scope="module")
def rounded():
    """Blocks of three bits in a table, one scale a unit, and rotated units."""
    keras.utils.set_random_seed(0)
    model = classifier()
    for name, config in {
        "words": RoundingConfig(3, block_size=8),
        "up": RoundingConfig(4, block_size=None),
        "hidden": RoundingConfig(2, block_size=16, rotate=True),
    }.items():
        model, _ = compress(model, config, name)
    return model


@each_format
def test_the_file_of_a_rounded_model_computes_the_same(rounded, tmp_path, format):
    assert_same_outputs(rounded, tmp_path, format)
