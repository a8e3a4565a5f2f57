"""Smaller forms in finished ONNX files: run by ONNX Runtime, beside the layers."""

from functools import cache

import numpy as np
import pytest

from keras_messi.exporting.float_twins import SmallMatrix
from keras_messi.exporting.forms import Factors, Floats, Integers
from keras_messi.exporting.forms_of_layers import form_of_layer
from tests.keras_messi.small_layers import KINDS, D, N, matrix_of, small_layer

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from keras_messi.exporting.onnx import integers, products  # noqa: E402
from keras_messi.exporting.onnx.bits import pack, unpacked  # noqa: E402
from keras_messi.exporting.onnx.files import put_forms  # noqa: E402
from keras_messi.exporting.onnx.graph import Graph  # noqa: E402
from keras_messi.exporting.onnx.integers import in_integers  # noqa: E402
from keras_messi.exporting.onnx.products import in_floats  # noqa: E402

IDS = np.array([[0, 3, N - 1], [7, 3, 11]])
X = np.random.default_rng(0).standard_normal((5, N)).astype("float32")
H = np.random.default_rng(1).standard_normal((5, D)).astype("float32")


@pytest.fixture(autouse=True)
def small_matrices_pay(monkeypatch):
    """Let the small ones of these tests be multiplied as large ones are."""
    for module, names in {
        integers: ("_WORTH_INPUTS", "_WORTH_INTEGERS"),
        products: ("_WORTH_FACTORS", "_WORTH_FACTORS_TRANSPOSED"),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, 0)


each_kind = pytest.mark.parametrize("kind", KINDS)


def float_file(path, matrix, opset=15):
    """A file that looks rows of a matrix up, and multiplies by it both ways."""
    make, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    inputs = [
        make("ids", onnx.TensorProto.INT64, ["batch", "length"]),
        make("x", floats, ["batch", N]),
        make("h", floats, ["batch", D]),
    ]
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["rows"]),
        onnx.helper.make_node("MatMul", ["x", "table"], ["product"]),
        onnx.helper.make_node("MatMul", ["h", "transposed"], ["logits"]),
        onnx.helper.make_node("Gemm", ["h", "table", "bias"], ["linear"], transB=1),
    ]
    shapes = [["a", "b", D], ["c", D], ["d", N], ["e", N]]
    outputs = [
        make(node.output[0], floats, shape)
        for node, shape in zip(nodes, shapes, strict=True)
    ]
    arrays = {"table": matrix, "transposed": matrix.T, "bias": np.ones(N, "float32")}
    constants = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(x), name)
        for name, x in arrays.items()
    ]
    graph = onnx.helper.make_graph(nodes, "float", inputs, outputs, constants)
    opsets = [onnx.helper.make_opsetid("", opset)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def run(path):
    """Rows, products, logits and what a Gemm gives."""
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {"ids": IDS, "x": X, "h": H})


def with_form(path, form, multiply=in_floats, most_decoded=0, opset=15):
    """What a file computes once a form is put in the place of its matrix."""
    matrix = form.matrix()
    float_file(path, matrix, opset)
    assert not put_forms(
        path, [SmallMatrix("layer", matrix, form)], multiply, most_decoded
    )
    return run(path)


def assert_computes(outputs, matrix, bound):
    expected = [matrix[IDS], X @ matrix, H @ matrix.T, H @ matrix.T + 1]
    for got, want in zip(outputs, expected, strict=True):
        assert np.linalg.norm(got - want) <= bound * np.linalg.norm(want)


@cache
def known(kind, is_dense):
    """The form of a layer of a kind, and the matrix that it computes with."""
    layer = small_layer(kind, is_dense)
    return form_of_layer(layer), matrix_of(layer)


@each_kind
@pytest.mark.parametrize("most_decoded", [0, 2**23], ids=["stored", "decoded"])
def test_a_table_in_the_file_is_that_of_the_layer(kind, most_decoded, tmp_path):
    form, matrix = known(kind, is_dense=False)
    outputs = with_form(tmp_path / "x.onnx", form, most_decoded=most_decoded)
    assert_computes(outputs, matrix, bound=1e-5)


@each_kind
@pytest.mark.parametrize("multiply", [in_floats, in_integers])
def test_a_kernel_in_the_file_is_that_of_the_layer(kind, multiply, tmp_path):
    form, matrix = known(kind, is_dense=True)
    outputs = with_form(tmp_path / "x.onnx", form, multiply)
    assert_computes(outputs, matrix, bound=1e-5 if multiply is in_floats else 0.03)


@pytest.mark.parametrize("kind", ["normal coordinates", "4 bits in blocks"])
def test_files_of_newer_operators_hold_the_same(kind, tmp_path):
    form, matrix = known(kind, is_dense=True)
    outputs = with_form(tmp_path / "x.onnx", form, in_integers, opset=18)
    assert_computes(outputs, matrix, bound=0.03)


@pytest.mark.parametrize("bits", range(1, 13))
def test_integers_of_any_bits_are_packed_and_unpacked(bits):
    codes = np.random.default_rng(0).integers(0, 2**bits, (3, 7))
    graph = Graph(onnx.helper.make_model(onnx.helper.make_graph([], "x", [], [])))
    output = graph.cast(unpacked(codes, bits, graph, lambda table: table), "INT32")
    info = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.INT32, [3, 7])
    graph.model.graph.output.append(info)
    graph.model.ir_version = 8
    graph.finish()
    session = onnxruntime.InferenceSession(graph.model.SerializeToString())
    assert np.array_equal(session.run(None, {})[0], codes)


def test_four_bits_take_half_a_byte():
    codes = np.arange(10).reshape(2, 5)
    assert pack(codes, 4).shape == (2, 3)
    assert pack(codes, 8).shape == (2, 5)


def test_small_matrices_are_multiplied_in_floats(tmp_path, monkeypatch):
    monkeypatch.setattr(integers, "_WORTH_INPUTS", N + 1)
    form, matrix = known("4 bits", is_dense=True)
    outputs = with_form(tmp_path / "x.onnx", form, in_integers)
    assert_computes(outputs, matrix, bound=1e-5)


def column_integers(bits, n=N, d=D):
    half = 2 ** (bits - 1)
    rng = np.random.default_rng(bits)
    integers = rng.integers(-half, half, (n, d)).astype("int8")
    scales = rng.uniform(0.01, 0.1, (1, d)).astype("float32")
    return Integers(integers, bits, scales, axis=0, block_size=n)


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
def test_no_product_saturates(bits, tmp_path):
    """Weights and activations of the greatest size, all of one sign in a column."""
    half = 2 ** (bits - 1)
    integers = np.full((N, D), -half, "int8")
    integers[:, 1::2] = half - 1
    scales = np.ones((1, D), "float32")
    form = Integers(integers, bits, scales, axis=0, block_size=N)
    path = tmp_path / "x.onnx"
    with_form(path, form, in_integers)
    x = np.full((5, N), 3, "float32")
    x[:, 0] = -1
    session = onnxruntime.InferenceSession(path)
    got = session.run(["product"], {"ids": IDS, "x": x, "h": H})[0]
    np.testing.assert_allclose(got, x @ form.matrix(), rtol=1e-5)


def test_an_answer_does_not_depend_on_its_batch(tmp_path):
    path = tmp_path / "x.onnx"
    with_form(path, column_integers(4), in_integers)
    session = onnxruntime.InferenceSession(path)
    batch = X * np.array([[1], [10], [0.1], [100], [1]], "float32")
    together = session.run(["product"], {"ids": IDS, "x": batch, "h": H})[0]
    for row, want in zip(batch, together, strict=True):
        alone = session.run(["product"], {"ids": IDS, "x": row[np.newaxis], "h": H})[0]
        assert np.array_equal(alone[0], want)


@pytest.mark.parametrize("value", [0, 1e-20, 5, -3e4])
def test_activations_that_are_all_alike_are_multiplied(value, tmp_path):
    path, form = tmp_path / "x.onnx", column_integers(4)
    with_form(path, form, in_integers)
    x = np.full((1, N), value, "float32")
    session = onnxruntime.InferenceSession(path)
    got = session.run(["product"], {"ids": IDS, "x": x, "h": H})[0]
    want = x @ form.matrix()
    np.testing.assert_allclose(got, want, atol=1e-6 * np.abs(want).max())


@pytest.mark.parametrize(("bits", "share"), [(8, 1.03), (4, 1.06), (3, 1.1)])
def test_the_file_holds_the_bits_and_little_else(bits, share, tmp_path):
    form = column_integers(bits, n=300, d=128)
    path, matrix = tmp_path / "x.onnx", form.matrix()
    tensor = onnx.numpy_helper.from_array(matrix, "kernel")
    node = onnx.helper.make_node("MatMul", ["x", "kernel"], ["y"])
    make, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    ends = [make("x", floats, ["b", 300])], [make("y", floats, ["b", 128])]
    graph = onnx.helper.make_graph([node], "float", *ends, [tensor])
    opsets = [onnx.helper.make_opsetid("", 15)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    put_forms(path, [SmallMatrix("layer", matrix, form)], in_integers, most_decoded=0)
    stored = 300 * 128 * bits / 8 + 4 * 128
    assert path.stat().st_size < share * stored + 700


def test_a_matrix_that_is_not_in_the_file_is_told(tmp_path):
    path, form = tmp_path / "x.onnx", column_integers(4)
    float_file(path, form.matrix() + 1)
    known = [SmallMatrix("layer", form.matrix(), form)]
    assert put_forms(path, known, in_floats, most_decoded=0) == {"layer"}
    assert_computes(run(path), form.matrix() + 1, bound=1e-6)


def test_too_old_a_set_of_operators_is_named(tmp_path):
    form = column_integers(4)
    with pytest.raises(ValueError, match="`opset_version` must be at least 13.*=11"):
        with_form(tmp_path / "x.onnx", form, opset=11)


def test_two_layers_of_one_matrix_are_both_found(tmp_path):
    path, form = tmp_path / "x.onnx", column_integers(4)
    float_file(path, form.matrix())
    known = [SmallMatrix(name, form.matrix(), form) for name in ("one", "other")]
    assert put_forms(path, known, in_floats, most_decoded=0) == set()


def test_constants_are_in_half_precision_only_where_that_is_exact(tmp_path):
    exact = np.random.default_rng(0).standard_normal((N, D)).astype("float16")
    form = Factors(
        [Floats(exact.astype("float32") / 8)],
        Floats(np.eye(D, dtype="f4")),
        np.zeros(N, "u1"),
    )
    assert_computes(with_form(tmp_path / "x.onnx", form), form.matrix(), bound=1e-6)
    types = {x.data_type for x in onnx.load(tmp_path / "x.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types
