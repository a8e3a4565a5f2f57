"""Factors whose coordinates are codewords: the layers, and `compress` with both."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from numpy.testing import assert_allclose

import keras_messi
from keras_messi import CompressionReport, MessiConfig, PQConfig, compress
from keras_messi.layers import MessiPQDense, MessiPQEmbedding, PQEmbedding
from keras_messi.layers.numbers.codes import pack_codes
from keras_messi.layers.sizes import stored_bytes
from keras_messi.layers.storage.lookup import static_lookup
from keras_messi.methods.subspaces.messi_pq import interleaved
from keras_messi.report import SkipReason
from tests import reference

from . import models
from .factored import (
    assert_ids_are_treated_as_by_an_embedding,
    fixture_of,
    gradients_of,
    stored,
)
from .test_pq_layers import SCRIPT, TOKENS

BACKEND = keras.backend.backend()
N, D, SIZE = 12, 9, 2
# num_clusters, rank, cluster_sizes, num_codewords, num_codebooks
SPLITS = [
    (1, 4, None, 5, 1),
    (3, 4, None, 5, 2),
    (3, [2, 8, 4], [5, 3, 4], 300, 4),
    (2, [8, 2], [1, 11], 3, 2),
]


kind = fixture_of(MessiPQDense, MessiPQEmbedding)
split = fixture_of(*SPLITS)


def new_layer(kind, split=SPLITS[2], block_size=SIZE, **arguments):
    num_clusters, rank, sizes, *books = split
    shape = (D,) if kind is MessiPQDense else (N, D)
    layer = kind(*shape, num_clusters, rank, block_size, *books, sizes, **arguments)
    layer.build((None, N))
    return layer


def filled_layer(kind, split=SPLITS[2], **arguments):
    """A layer with random weights, its matrix, an input and what it should compute."""
    layer, rng = new_layer(kind, split, **arguments), np.random.default_rng(0)
    codes = [rng.integers(split[3], size=u.shape) for u in layer.coordinates]
    store = {f"codes_{c}": pack_codes(x, split[3]) for c, x in enumerate(codes)}
    store["codebooks"] = rng.standard_normal(layer.codebooks.shape).astype("float32")
    store["bases"] = rng.standard_normal(layer.bases.shape).astype("float32")
    store["bias"] = rng.standard_normal(D).astype("float32")
    store["assignments"] = rng.permutation(layer.assignments)
    layer.load_own_variables(store)
    matrix = matrix_of(layer)
    if kind is MessiPQEmbedding:
        return layer, matrix, TOKENS, matrix[TOKENS]
    x = rng.standard_normal((4, N)).astype("float32")
    return layer, matrix, x, x @ matrix + store["bias"]


def array(tensor):
    return ops.convert_to_numpy(tensor)


def padded_codes(layer):
    """Codes of all rows by cluster, with -1 for blocks that a cluster lacks."""
    tables = [array(x).astype(int) for x in layer.coordinates]
    width = max(table.shape[1] for table in tables)
    return [
        np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=-1) for x in tables
    ]


def coordinates_of(layer):
    """Coordinates of each cluster, one codeword after another."""
    codebooks = array(layer.codebooks)
    return [
        reference.decoded(codebooks, codes)[:, :rank]
        for codes, rank in zip(padded_codes(layer), layer.ranks, strict=True)
    ]


def bases_of(layer):
    return np.split(array(layer.bases), np.cumsum(layer.ranks)[:-1])


def matrix_of(layer):
    return reference.dense_matrix(
        layer.assignments, coordinates_of(layer), bases_of(layer)
    )


def gradients_by_hand(layer, of_matrix):
    """Gradients of the codebooks and the bases from that of the matrix."""
    codebooks, width = array(layer.codebooks), max(layer.ranks)
    for_rows, for_bases = [], []
    for c, (u, v) in enumerate(
        zip(coordinates_of(layer), bases_of(layer), strict=True)
    ):
        own = of_matrix[layer.assignments == c]
        for_bases.append(u.T @ own)
        for_rows.append(np.pad(own @ v.T, ((0, 0), (0, width - len(v)))))
    # A codeword more takes what blocks that a cluster lacks would pull: nothing.
    wider = np.pad(codebooks, ((0, 0), (0, 1), (0, 0)))
    codes = np.concatenate(padded_codes(layer))
    found = reference.codebooks_gradient(np.concatenate(for_rows), codes, wider)
    return found[:, :-1], np.concatenate(for_bases)


def check_gradients(layer, x, upstream, of_matrix, **arguments):
    weights = [layer.codebooks, layer.bases]
    found = gradients_of(layer, weights, x, upstream, **arguments)
    for one, expected in zip(found, gradients_by_hand(layer, of_matrix), strict=True):
        assert_allclose(one, expected, atol=2e-5)


def random_like(y):
    return np.random.default_rng(2).standard_normal(y.shape).astype("float32")


def test_call_multiplies_by_the_matrix(kind, split):
    layer, matrix, x, expected = filled_layer(kind, split)
    assert_allclose(array(layer(x)), expected, atol=2e-5)
    dense = layer.kernel if kind is MessiPQDense else layer.embeddings
    assert_allclose(array(dense), matrix, atol=1e-5)


def test_gradients_of_a_dense_layer(split):
    layer, _, x, y = filled_layer(MessiPQDense, split)
    upstream = random_like(y)
    check_gradients(layer, x, upstream, x.T @ upstream)


def test_gradients_of_a_look_up_and_both_ways_of_it(split):
    layer, _, tokens, y = filled_layer(MessiPQEmbedding, split)
    upstream, of_matrix = random_like(y), np.zeros((N, D))
    np.add.at(of_matrix, tokens, upstream)
    check_gradients(layer, tokens, upstream, of_matrix)
    with static_lookup():
        assert_allclose(array(layer(tokens)), y, atol=1e-5)
        check_gradients(layer, tokens, upstream, of_matrix)


def test_logits_are_those_of_the_tied_table(split):
    layer, matrix, _, _ = filled_layer(MessiPQEmbedding, split)
    hidden = np.random.default_rng(1).standard_normal((3, D)).astype("float32")
    logits = hidden @ matrix.T
    assert_allclose(array(layer(hidden, reverse=True)), logits, atol=2e-5)
    upstream = random_like(logits)
    check_gradients(layer, hidden, upstream, upstream.T @ hidden, reverse=True)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_bases_take_few_bits_and_codes_stay(kind, split, mode):
    layer, matrix, x, _ = filled_layer(kind, split)
    before = stored(layer)
    layer.quantize(mode)
    atol = {"int8": 0.05, "int4": 0.8}[mode] * np.abs(matrix).max()
    dense = layer.kernel if kind is MessiPQDense else layer.embeddings
    assert_allclose(array(dense), matrix, atol=atol)
    after, y = stored(layer), array(layer(x))
    unchanged = [name for name in after if name.startswith(("codes", "codebooks"))]
    assert len(unchanged) == 1 + split[0]
    assert all(np.array_equal(after[name], before[name]) for name in unchanged)
    assert [w is layer.codebooks for w in layer.trainable_weights][0]
    assert not layer.bases.trainable
    layer.dequantize()
    assert layer.bases.trainable
    assert_allclose(array(layer(x)), y, atol=1e-4)


def test_training_moves_codebooks_and_bases(kind, split):
    layer, _, x, y = filled_layer(kind, split)
    model = model_of(layer, x)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    before = stored(layer)
    model.fit(x, np.zeros_like(y), epochs=2, verbose=0)
    after = stored(layer)
    for name, value in before.items():
        moves = name in ("codebooks", "bases", "bias")
        assert np.array_equal(value, after[name]) != moves


def model_of(layer, x):
    inputs = keras.Input(x.shape[1:], dtype=str(x.dtype))
    return keras.Model(inputs, layer(inputs))


def test_what_is_stored_can_be_loaded(kind, split):
    layer, _, x, _ = filled_layer(kind, split)
    twin = kind.from_config(json.loads(json.dumps(layer.get_config())))
    twin.build((None, N))
    twin.load_own_variables(stored(layer))
    assert np.array_equal(array(twin(x)), array(layer(x)))
    assert np.array_equal(array(twin.uses), array(layer.uses))
    bits = {5: 3, 3: 2, 300: 9}[split[3]]
    for c, (size, rank) in enumerate(
        zip(layer.cluster_sizes, layer.ranks, strict=True)
    ):
        packed = stored(layer)[f"codes_{c}"]
        assert packed.nbytes == -(-size * rank // SIZE * bits // 8)


@pytest.mark.slow
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_file_gives_the_same_bits_in_a_fresh_process(kind, quantization, tmp_path):
    layer, _, x, _ = filled_layer(kind)
    if quantization:
        layer.quantize(quantization)
    model = model_of(layer, x)
    files = [str(tmp_path / name) for name in ("model.keras", "x.npy", "y.npy")]
    keras_messi.save_model(model, files[0])
    np.save(files[1], x)
    subprocess.run([sys.executable, "-c", SCRIPT, *files], check=True)
    assert np.array_equal(np.load(files[2]), model.predict(x, verbose=0))


@pytest.mark.parametrize("token", [-1, -N, -N - 1, N, 10**6])
@pytest.mark.parametrize("split", [SPLITS[0], SPLITS[2]], ids=str)
def test_ids_out_of_range_do_what_they_do_in_an_embedding(token, split):
    layer, matrix, *_ = filled_layer(MessiPQEmbedding, split)
    assert_ids_are_treated_as_by_an_embedding(layer, matrix, token, 1e-5)


BAD_ARGUMENTS = [
    ({"block_size": 3}, r"`rank` must be a multiple of block_size=3.*\[2, 8, 4\]"),
    ({"split": (1, 1, None, 5, 1)}, "`rank` must be a multiple of block_size=2"),
    ({"split": (1, 8, None, 5, 3)}, r"`num_codebooks` must divide the blocks .* 4"),
    ({"split": (1, 10, None, 5, 1)}, "`rank` must not exceed the width"),
    ({"quantization": "float8"}, "`quantization` must be one of"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        new_layer(kind, **arguments)


BOTH = MessiConfig(
    rate=0.4, num_clusters=2, quantization=PQConfig(4, 16), scope="layer"
)


@pytest.mark.parametrize("make", models.ALL)
def test_models_of_all_kinds_are_left_and_saved_as_they_are(make, tmp_path):
    keras.utils.set_random_seed(0)
    model = make()
    models.outputs_of(model)
    before = models.snapshot(model)
    small, report = compress(model, BOTH)
    models.assert_unchanged(model, before)
    assert report.bytes_after < report.bytes_before
    for row in report.replaced:
        assert row.num_clusters
        assert row.num_codewords
        assert all(rank % 4 == 0 for rank in row.ranks)
    assert CompressionReport.from_json(report.to_json()) == report
    if make is models.composite:
        pytest.skip("Keras does not load Python lambdas in safe mode")
    keras_messi.save_model(small, tmp_path / "small.keras")
    loaded = keras_messi.load_model(tmp_path / "small.keras")
    assert np.array_equal(models.outputs_of(loaded), models.outputs_of(small))


def word_model(rows=200, width=16):
    keras.utils.set_random_seed(0)
    layer = keras.layers.Embedding(rows, width, name="words")
    return keras.Sequential([keras.Input((5,), dtype="int32"), layer])


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0.4, "scope": "model"},
        {"rate": 0.4, "num_clusters": "auto"},
        {"rate": 0.4, "ranks": "uniform"},
        {"rate": 0.4, "ranks": "uniform", "clustering": "k-means"},
        {"rank": 8},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_codebooks", [1, "all"])
def test_it_goes_with_the_other_choices(options, num_codebooks):
    coding = PQConfig(4, 16, num_codebooks)
    config = MessiConfig(**{"num_clusters": 2, "quantization": coding, **options})
    tokens = np.random.default_rng(0).integers(20, size=(400, 5))
    _, report = compress(word_model(), config, calibration_data=tokens)
    (row,) = report.replaced
    books = max(row.ranks) // 4 if num_codebooks == "all" else 1
    assert (row.num_codewords, row.num_codebooks) == (16, books)
    assert row.adopted == ["row weights"]
    assert row.output_error < row.relative_error


def test_codes_are_of_the_nearest_codewords():
    small, _ = compress(word_model(), BOTH)
    layer, table = small.layers[-1], array(word_model().layers[-1].embeddings)
    codebook = array(layer.codebooks)[0]
    for c, v in enumerate(bases_of(layer)):
        assert_allclose(v @ v.T, np.eye(len(v)), atol=1e-4)
        blocks = (table[layer.assignments == c] @ v.T).reshape(-1, 1, 4)
        distances = np.sum((blocks - codebook) ** 2, axis=-1)
        chosen = array(layer.coordinates[c]).reshape(-1, 1).astype(int)
        near = np.take_along_axis(distances, chosen, axis=1)[:, 0]
        assert np.sum(near) <= 1.02 * np.sum(distances.min(axis=1))


def test_a_cluster_of_fewer_rows_than_a_block_is_filled_up():
    rng = np.random.default_rng(0)
    table = np.zeros((42, 16), "float32")
    table[:40, :8], table[40:, 8:] = rng.standard_normal((40, 8)), 5
    model = word_model(42)
    model.layers[-1].set_weights([table])
    config = MessiConfig(rank=4, num_clusters=2, quantization=PQConfig(4, 16))
    small, report = compress(model, config)
    assert report.replaced[0].ranks == [4, 4]
    assert report.replaced[0].relative_error < 0.5
    assert np.isfinite(array(small.layers[-1].embeddings)).all()


def test_directions_are_dealt_out_there_and_back():
    assert interleaved(9, 3).tolist() == [0, 5, 6, 1, 4, 7, 2, 3, 8]


def test_bases_of_a_model_are_quantized_and_back():
    small, _ = compress(word_model(), BOTH)
    smaller = keras_messi.quantize(small, "int8")
    assert smaller.layers[-1].quantization == "int8"
    again = keras_messi.dequantize(smaller)
    tokens = TOKENS[:, :5]
    y = array(smaller(tokens))
    assert_allclose(array(again(tokens)), y, atol=1e-6)
    assert_allclose(y, array(small(tokens)), atol=1e-3)


def test_inputs_are_not_folded():
    layers = [keras.layers.Dense(40), keras.layers.Dense(40)]
    model = keras.Sequential([keras.Input((40,)), *layers])
    small, report = compress(model, BOTH)
    assert not report.folded
    assert [type(layer) for layer in small.layers] == [MessiPQDense, MessiPQDense]


BAD_CONFIGS = [
    ({"rank": 6}, {}, "`rank` must be a multiple of block_size=4"),
    (
        {"rate": 0.5},
        {"num_codebooks": 2},
        '`quantization.num_codebooks` must be 1 or "',
    ),
]


@pytest.mark.parametrize(("arguments", "coding", "message"), BAD_CONFIGS)
def test_bad_configs_are_refused(arguments, coding, message):
    with pytest.raises(ValueError, match=message):
        MessiConfig(**arguments, quantization=PQConfig(**{"block_size": 4, **coding}))


def test_a_block_wider_than_the_matrix_is_a_reason_to_skip():
    config = MessiConfig(
        rate=0.4, num_clusters=2, quantization=PQConfig(32, 16), scope="layer"
    )
    with pytest.raises(ValueError, match=f"{SkipReason.UNEVEN_BLOCKS}.*width 16"):
        compress(word_model(), config)


@pytest.mark.slow
def test_bytes_of_the_word_table_are_those_of_the_file(word_table, tmp_path):
    model = word_model(*word_table.shape)
    model.layers[-1].set_weights([word_table])
    config = MessiConfig(rank=192, num_clusters=1, quantization=PQConfig(4, 4))
    small, report = compress(model, config)
    path = tmp_path / "small.keras"
    keras_messi.save_model(small, path)
    expected = 30522 * 48 // 4 + 4 * (4 * 4 + 192 * 384)
    assert report.bytes_after == expected
    assert report.file_bytes_after == pytest.approx(os.path.getsize(path), rel=0.01)
    assert os.path.getsize(path) == pytest.approx(expected, rel=0.02)
    assert report.bytes_before > 64 * report.bytes_after
    assert report.replaced[0].relative_error < 0.75


def bytes_of_file(layer, codes, path):
    """Size of a model of a layer whose codes no archive makes smaller."""
    rng = np.random.default_rng(0)
    for table in codes:
        table.assign(rng.integers(layer.num_codewords, size=table.shape))
    keras_messi.save_model(model_of(layer, TOKENS), path / "small.keras")
    size = os.path.getsize(path / "small.keras")
    assert size == pytest.approx(stored_bytes([layer]), rel=0.02)
    return size


@pytest.mark.slow
def test_codes_on_coordinates_of_the_word_table_take_32_times_fewer_bytes(tmp_path):
    layer = MessiPQEmbedding(30522, 384, 20, 96, 4, 256, num_codebooks=24)
    layer.build()
    layer.quantize("int4")
    assert 32 * bytes_of_file(layer, layer.coordinates, tmp_path) < 30522 * 384 * 4


@pytest.mark.slow
def test_codes_of_the_word_table_take_16_times_fewer_bytes(tmp_path):
    layer = PQEmbedding(30522, 384, block_size=6, num_codewords=1024)
    layer.build()
    assert 16 * bytes_of_file(layer, [layer.codes], tmp_path) < 30522 * 384 * 4
