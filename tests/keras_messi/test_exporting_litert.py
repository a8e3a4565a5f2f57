"""LiteRT files: as small as the saved models, and tried before they are there."""

import warnings
from itertools import product

import keras
import numpy as np
import pytest

from keras_messi import export, layers, quantize, save_model
from keras_messi.exporting import worth
from keras_messi.exporting.litert import export as litert_export
from keras_messi.exporting.litert.files import in_floats, put_forms
from keras_messi.exporting.litert.graph import File
from tests.keras_messi.small_layers import ARGUMENTS, KINDS, D, N, small_layer

if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT is written by TensorFlow", allow_module_level=True)

import tensorflow as tf

# Kinds whose products end in different operations.
ENDS = ("int8 factors", "even coordinates", "4 bits in blocks", "codes", "Keras int4")
USES = [
    *product(KINDS, ["relu"], ["none"]),
    *product(ENDS, ["relu"], ["zeros", "some"]),
    *product(ENDS, ["linear", "relu6", "gelu"], ["zeros", "some"]),
    # Which are worth their rotation together.
    *product(["turned"], ["linear"], ["zeros", "some"]),
]


def run(content, *inputs):
    """Outputs of a file, in the order of the model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")
        runner = tf.lite.Interpreter(model_content=content).get_signature_runner()
    found = runner(**dict(zip(runner.get_input_details(), inputs, strict=True)))
    return [found[name] for name in sorted(found, key=lambda x: (len(x), x))]


def operations(content):
    """Names of the operations of a file, in their order."""
    file = File(content)
    codes = [x.opcodeIndex for x in file._model.subgraphs[0].operators]
    return [file.operation(code) for code in codes]


def distance(got, want):
    """Norm of the difference, over that of what is wanted."""
    want = keras.ops.convert_to_numpy(want)
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def exported(model, folder, **options):
    export(model, folder / "model.tflite", **options)
    return (folder / "model.tflite").read_bytes()


def dense_layer(number, kind, activation, bias):
    layer = small_layer(
        kind,
        True,
        activation=activation,
        use_bias=bias != "none",
        name=f"layer_{number}",
    )
    if bias == "zeros":
        layer.bias.assign(np.zeros(D))
    return layer


@pytest.fixture(scope="module", autouse=True)
def _small_matrices_change():
    """Let matrices be changed that are too small to be worth it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "_WORTH_CHANGING", 0)
        yield


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A model of Dense layers side by side, its file, inputs, and what it computes."""
    inputs = keras.Input((N,))
    found = [dense_layer(number, *use) for number, use in enumerate(USES)]
    model = keras.Model(inputs, [layer(inputs) for layer in found])
    x = np.random.default_rng(1).standard_normal((3, N)).astype("float32")
    return exported(model, tmp_path_factory.mktemp("dense")), x, model(x)


def test_dense_layers_of_all_kinds_keep_activation_and_bias(dense):
    content, x, want = dense
    for use, got, y in zip(USES, run(content, x), want, strict=True):
        assert distance(got, y) < 0.02, use
        assert use[1] != "relu" or got.min() == 0, use


def test_dense_layers_of_all_kinds_compute_the_same_in_floats(dense):
    content, x, want = dense
    for use, got, y in zip(USES, run(in_floats(content), x), want, strict=True):
        assert distance(got, y) < 1e-5, use


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A model of look-ups and of logits, for texts of any number and length."""
    tokens = keras.Input((None,), dtype="int32")
    hidden = keras.Input((None, D))
    outputs = []
    for number, kind in enumerate(KINDS):
        layer = small_layer(kind, False, name=f"layer_{number}")
        outputs += [layer(tokens), layer(hidden, reverse=True)]
    model = keras.Model([tokens, hidden], outputs)
    return model, exported(model, tmp_path_factory.mktemp("tables"))


@pytest.mark.parametrize("shape", [(3, 5), (1, 1)])
def test_tables_of_all_kinds_are_read_and_multiplied_by(tables, shape):
    model, content = tables
    rng = np.random.default_rng(1)
    tokens = rng.integers(-N, N, shape).astype("int32")
    hidden = rng.standard_normal((*shape, D)).astype("float32")
    want, got = model([tokens, hidden]), run(content, tokens, hidden)
    for kind, rows, y in zip(KINDS, got[::2], want[::2], strict=True):
        assert distance(rows, y) < 1e-6, kind
    for kind, logits, y in zip(KINDS, got[1::2], want[1::2], strict=True):
        assert distance(logits, y) < 0.01, kind


# Kinds whose rows are in clusters, and ranks of these that are about equal.
CLUSTERED = {
    kind: [4, 8, 8] if "coded" in kind.split() or "coded," in kind else [7, 7, 6]
    for kind, (_, arguments) in ARGUMENTS.items()
    if "cluster_sizes" in arguments
}


def test_coordinates_of_all_clusters_are_looked_up_at_once(tmp_path):
    tokens = keras.Input((5,), dtype="int32")
    made = [
        small_layer(kind, False, name=f"layer_{number}", rank=rank, cluster_sizes=SIZES)
        for number, (kind, rank) in enumerate(CLUSTERED.items())
    ]
    model = keras.Model(tokens, [layer(tokens) for layer in made])
    x = np.random.default_rng(1).integers(-N, N, (4, 5)).astype("int32")
    content = exported(model, tmp_path)
    for kind, got, want in zip(CLUSTERED, run(content, x), model(x), strict=True):
        assert distance(got, want) < 1e-6, kind
    assert operations(content).count("ONE_HOT") == len(CLUSTERED)


SIZES = [2, 12, 10]


def test_a_look_up_has_as_many_operations_for_more_clusters(tmp_path):
    found = []
    for k in (3, 6):
        tokens = keras.Input((5,), dtype="int32")
        words = layers.MessiEmbedding(600, 16, num_clusters=k, rank=3)
        model = keras.Model(tokens, words(tokens))
        found.append(operations(exported(model, tmp_path, overwrite=True)))
    assert found[0] == found[1]


def test_ranks_that_differ_much_are_not_padded(tmp_path):
    tokens = keras.Input((5,), dtype="int32")
    words = layers.MessiEmbedding(6000, 64, num_clusters=3, rank=[2, 2, 40])
    model = keras.Model(tokens, words(tokens))
    save_model(model, tmp_path / "model.keras")
    size = (tmp_path / "model.keras").stat().st_size
    assert len(exported(model, tmp_path)) <= 1.1 * size


def test_sizes_that_are_known_stay_known(tmp_path):
    tokens = keras.Input(batch_shape=(2, 6), dtype="int32")
    x = small_layer("int4 factors", False, name="words")(tokens)
    x = small_layer("coded coordinates", False, name="more")(tokens) + x
    model = keras.Model(tokens, x)
    x = np.random.default_rng(1).integers(0, N, (2, 6)).astype("int32")
    (got,) = run(exported(model, tmp_path), x)
    assert distance(got, model(x)) < 1e-6


@pytest.mark.parametrize("k", [1, 3])
def test_a_layer_without_bias_keeps_its_relu(tmp_path, k):
    layer = layers.MessiDense(256, k, 15, activation="relu", use_bias=False)
    model = keras.Sequential([keras.Input((64,)), layer])
    x = np.random.default_rng(1).standard_normal((5, 64)).astype("float32")
    model = quantize(model, "int8")
    (got,) = run(exported(model, tmp_path), x)
    assert got.min() == 0
    assert distance(got, model(x)) < 0.02


@pytest.fixture(scope="module")
def recommender():
    """Embeddings of several inputs in one row, and Dense layers with zero biases."""
    keras.utils.set_random_seed(0)
    sizes = {"user": 700, "item": 300, "kind": 20}
    inputs = [keras.Input((1,), dtype="int32", name=name) for name in sizes]
    embedded = [
        layers.MessiEmbedding(n, 24, num_clusters=3, rank=7, name=f"table_{name}")(x)
        for (name, n), x in zip(sizes.items(), inputs, strict=True)
    ]
    x = keras.layers.Flatten()(keras.layers.concatenate(embedded))
    x = layers.MessiDense(64, 2, 12, activation="relu", name="up")(x)
    x = layers.MessiDense(40, 2, 9, activation="relu", name="down")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid", name="score")(x))
    rng = np.random.default_rng(0)
    x = [rng.integers(0, n, (6, 1)).astype("int32") for n in sizes.values()]
    return quantize(model, "int8"), x


def test_a_recommender_computes_the_same_in_floats(recommender, tmp_path):
    model, (user, item, kind) = recommender
    content = exported(model, tmp_path, activations="float32")
    (got,) = run(content, item, kind, user)  # which the file has by name
    assert distance(got, model([user, item, kind])) < 1e-5


def test_a_scale_that_follows_is_multiplied_into_those_of_integers(tmp_path):
    inputs = keras.Input((N,))
    norm = keras.layers.BatchNormalization()
    model = keras.Model(inputs, norm(small_layer("Keras int8", True)(inputs)))
    rng = np.random.default_rng(0)
    norm.set_weights([rng.uniform(-2, 2, D), rng.normal(size=D), *rng.random((2, D))])
    x = rng.standard_normal((4, N)).astype("float32")
    content = exported(model, tmp_path)
    assert distance(run(content, x)[0], model(x)) < 0.02
    assert in_floats(content) != content


# What a layer of some thousand numbers is stored as, by the name of its form.
STORED = {
    "factors": ("Messi", {"num_clusters": 3, "rank": 9}),
    "int8": ("Messi", {"num_clusters": 3, "rank": 15, "quantization": "int8"}),
    "int4": ("Messi", {"num_clusters": 3, "rank": 15, "quantization": "int4"}),
    "4 bits": ("Rounded", {"bits": 4}),
    "codes": ("PQ", {"block_size": 4, "num_codewords": 256}),
    "codes on coordinates": (
        "MessiPQ",
        {"num_clusters": 3, "rank": 16, "block_size": 4, "num_codewords": 256},
    ),
}


@pytest.mark.parametrize("form", STORED)
def test_a_file_is_as_small_as_the_saved_model(tmp_path, form):
    name, arguments = STORED[form]
    tokens = keras.Input((8,), dtype="int32")
    words = getattr(layers, f"{name}Embedding")(6000, 64, name="words", **arguments)
    hidden = getattr(layers, f"{name}Dense")(1500, name="hidden", **arguments)
    model = keras.Model(tokens, words(hidden(words(tokens))[..., :64], reverse=True))
    save_model(model, tmp_path / "model.keras")
    size = (tmp_path / "model.keras").stat().st_size
    assert len(exported(model, tmp_path)) <= 1.1 * size


def test_a_file_that_computes_something_else_is_not_left(tmp_path, monkeypatch):
    inputs = keras.Input((N,))
    outputs = {
        "right": keras.layers.Dense(2)(inputs),
        "wrong": small_layer("Keras int8", True)(inputs),
    }
    model = keras.Model(inputs, outputs)
    monkeypatch.setattr(litert_export, "put_forms", _with_other_scales)
    (tmp_path / "model.tflite").write_bytes(b"old")
    with pytest.raises(ValueError, match="output 'wrong' differs"):
        exported(model, tmp_path, overwrite=True)
    assert [x.read_bytes() for x in tmp_path.iterdir()] == [b"old"]


def _with_other_scales(content, matrices):
    changed = [
        x._replace(form=type(x.form)(**{**vars(x.form), "scales": 3 * x.form.scales}))
        for x in matrices
    ]
    return put_forms(content, changed)


def test_a_matrix_that_the_converter_changes_is_named(tmp_path):
    class Positions(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.table = small_layer("Keras int8", False, name="table")

        def call(self, inputs):
            return inputs + self.table(np.arange(6))

    keras.saving.register_keras_serializable("tests")(Positions)
    inputs = keras.Input((6, D))
    model = keras.Model(inputs, Positions(name="positions")(inputs))
    with pytest.warns(UserWarning, match="layer positions/table"):
        exported(model, tmp_path)


def test_a_recurrent_layer_is_named_with_what_to_do(tmp_path):
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, keras.layers.LSTM(7, name="steps")(inputs))
    with pytest.raises(ValueError, match=r"loop over the steps .* in .*steps.*unroll"):
        exported(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_operation_for_fixed_sizes_only_is_named_with_what_to_do(tmp_path):
    class Raised(keras.layers.Layer):
        def call(self, inputs):
            return inputs[:, tf.newaxis, tf.newaxis, :]

    inputs = keras.Input((None,))
    model = keras.Model(inputs, Raised(name="raised")(inputs))
    advice = r"StridedSlice, in .*raised.*inputs of fixed sizes.*`input_signature`"
    with pytest.raises(ValueError, match=advice):
        exported(model, tmp_path)
    signature = [keras.InputSpec("float32", (2, 5))]
    assert exported(model, tmp_path, input_signature=signature)


def test_tables_stay_as_they_are_stored(tmp_path):
    model = keras.Sequential([keras.Input((N,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match='`tables` must be "stored".*decoded'):
        exported(model, tmp_path, tables="decoded")
