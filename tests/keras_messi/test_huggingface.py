"""Models of transformers, in the framework of the backend."""

import json
import os
import subprocess
import sys
import textwrap
import types
from functools import cache

import keras
import numpy as np
import pytest
from keras import ops

from keras_messi import MessiConfig, compress
from keras_messi.layers import MessiDense, MessiEmbedding
from keras_messi.models.huggingface import folders, from_pretrained
from keras_messi.models.huggingface import models as hf
from keras_messi.models.huggingface.frameworks import adapter_for
from keras_messi.models.huggingface.models import stored_tensors
from tests.keras_messi import transformer_models as models
from tests.keras_messi.factored import stored

if models.MISSING:
    pytest.skip(models.MISSING, allow_module_level=True)

pytestmark = models.FILTERS
adapter = adapter_for(models.BACKEND)
CONFIG = MessiConfig(rate=0.3, num_clusters=2, scope="layer")


@cache
def compressed(name):
    """A model, and what compress makes of it."""
    model = models.build(name)
    return model, *compress(model, CONFIG)


# One of each family, and each head; all others are slow.
QUICK = {"BertForSequenceClassification", "RobertaModel", "DistilBertForMaskedLM"}
QUICK |= {"AlbertForMaskedLM"}
CASES = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
    for name in models.CLASSES
]


@pytest.fixture(params=CASES)
def case(request):
    """Name of a class, a model, and what compress makes of it."""
    return request.param, *compressed(request.param)


@pytest.fixture
def classifier():
    return compressed("BertForSequenceClassification")[0]


@pytest.fixture
def small():
    return compressed("BertForSequenceClassification")[1]


@pytest.fixture
def folder(small, tmp_path):
    """A folder with a compressed model."""
    small.save_pretrained(tmp_path / "small")
    return tmp_path / "small"


def exact_layer(layer):
    """A layer of full rank for the matrix of a layer, in two clusters where it can."""
    rng = np.random.default_rng(0)
    matrix, *bias = (weight.astype("float64") for weight in layer.get_weights())
    n, d = matrix.shape
    clusters = rng.permutation(n) * 2 // n
    bases = [np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in set(clusters)]
    arguments = {
        "name": layer.name,
        "num_clusters": len(bases),
        "rank": d,
        "cluster_sizes": np.bincount(clusters).tolist(),
    }
    if isinstance(layer, keras.layers.Dense):
        new = MessiDense(d, use_bias=bool(bias), **arguments)
    else:
        new = MessiEmbedding(n, d, **arguments)
    new.build((None, n))
    new.load_own_variables(
        {f"coordinates_{c}": matrix[clusters == c] @ v.T for c, v in enumerate(bases)}
        | {"bases": np.concatenate(bases), "assignments": clusters}
        | dict(zip(["bias"], bias, strict=False))
    )
    return new


def exact_copy(model, part=""):
    """The same model, with all matrices in a part of it factored at full rank."""
    layers = [
        place.layer
        for place in hf.find_layers(model)
        if isinstance(place.layer, keras.layers.Dense | keras.layers.Embedding)
        and part in place.path
    ]
    return hf.replace_layers(model, {layer: exact_layer(layer) for layer in layers})


def run_python(code, *arguments):
    """Run a script in a fresh process, with this Keras backend."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        check=False,
    )


def places_of(names):
    return {name.rpartition(adapter.SEPARATOR)[0] for name in names}


def moved_by_one_step(model):
    """Names of the weights that a step of training moves."""
    copy = hf.replace_layers(model, {})
    before = stored_tensors(copy)
    before = {name: np.array(value) for name, value in before.items()}
    models.train_one_step(copy)
    after = stored_tensors(copy)
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_factors_of_full_rank_compute_what_the_model_computes(case):
    _, model, *_ = case
    np.testing.assert_allclose(
        models.outputs_of(exact_copy(model)), models.outputs_of(model), atol=2e-5
    )


def test_word_table_and_encoder_are_replaced_and_the_rest_is_skipped(case):
    _, model, small, report = case
    replaced = {row.path for row in report.replaced}
    assert sum("word_embeddings" in path for path in replaced) == 1
    assert replaced == set(adapter.factored_layers(small))
    left = places_of(adapter.stock_weights(small))
    assert left == {row.path for row in report.skipped}
    kinds = ("LayerNorm", "layer_norm", "token_type", "classifier", "out_proj")
    heads = ("predictions", "lm_head", "vocab_projector")
    assert [path for path in left if not any(x in path for x in kinds + heads)] == []


def test_the_given_model_is_left_as_it_is(case):
    name, model, small, _ = case
    assert type(model) is models.class_named(name)
    assert isinstance(small, type(model))
    assert not hasattr(model.config, "messi")
    now, before = stored_tensors(model), stored_tensors(models.build(name))
    assert all(np.array_equal(now[name], before[name]) for name in before)


def test_layers_answer_for_others_as_if_they_stood_there(case):
    _, model, small, _ = case
    before = models.outputs_of(model)
    texts = {name: models.read(x) for name, x in models.tokens().items()}
    factored = adapter.factored_layers(small)
    layers = {x.layer: factored.get(x.path) for x in hf.find_layers(model)}
    new = {old: layer for old, layer in layers.items() if layer is not None}
    with hf.substitute(model, new), hf.observe(model, {}) as run:
        outputs = models.read(run(texts)[0])
    np.testing.assert_allclose(outputs, models.outputs_of(small), atol=1e-6)
    np.testing.assert_array_equal(models.outputs_of(model), before)


def test_weights_are_tracked_and_counted(case):
    _, model, small, report = case
    counts = {model: report.parameters_before, small: report.parameters_after}
    for network, parameters in counts.items():
        sizes = [np.size(models.read(x)) for x in models.trained_weights(network)]
        assert sum(sizes) == parameters


def test_the_places_that_move_are_those_that_move_in_the_model(case):
    _, model, small, _ = case
    moved, expected = moved_by_one_step(small), moved_by_one_step(model)
    assert places_of(moved) == places_of(expected)


def test_one_step_moves_all_factors_of_a_classifier_and_no_cluster(small):
    still = set(stored_tensors(small)) - moved_by_one_step(small)
    assert {name.rpartition(adapter.SEPARATOR)[-1] for name in still} == {"assignments"}


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "BertForMaskedLM"])
def test_gradients_are_those_of_the_model_by_the_chain_rule(name):
    model = models.build(name)
    small = exact_copy(model)
    matrices, dense = adapter.stock_weights(model), models.gradients_of(model)
    factored = models.gradients_of(small)
    close = {"rtol": 1e-3, "atol": 1e-4 * max(np.abs(x).max() for x in dense.values())}
    for path, layer in adapter.factored_layers(small).items():
        start = path + adapter.SEPARATOR
        gradient = next(
            dense[id(weight)]
            for name, weight in matrices.items()
            if name.startswith(start) and len(weight.shape) == 2
        )
        if models.BACKEND == "torch" and isinstance(layer, MessiDense):
            gradient = gradient.T
        bases = ops.convert_to_numpy(layer.bases)
        for c, u in enumerate(layer.coordinates):
            rows = gradient[layer.assignments == c]
            basis = np.split(bases, layer.num_clusters)[c]
            np.testing.assert_allclose(factored[id(u.value)], rows @ basis.T, **close)
        u = [ops.convert_to_numpy(x) for x in layer.coordinates]
        expected = [u[c].T @ gradient[layer.assignments == c] for c in range(len(u))]
        found = factored[id(layer.bases.value)]
        np.testing.assert_allclose(found, np.concatenate(expected), **close)


@pytest.mark.slow
def test_all_kinds_reload_in_a_fresh_process_bit_for_bit(tmp_path):
    for name in models.CLASSES:
        _, small, _ = compressed(name)
        small.save_pretrained(tmp_path / name)
        np.save(tmp_path / name / "y.npy", models.outputs_of(small))
    script = """
        import sys, pathlib, numpy as np, keras_messi
        sys.modules["sklearn"] = sys.modules["kprojclust"] = None
        from tests.keras_messi import transformer_models as models
        for folder in pathlib.Path(sys.argv[1]).iterdir():
            small = keras_messi.huggingface.from_pretrained(folder)
            y = models.outputs_of(small)
            assert np.array_equal(y, np.load(folder / "y.npy")), folder
            assert small.config.messi["layers"], folder
            print(folder.name, type(small).__name__)
    """
    done = run_python(script, tmp_path)
    assert done.returncode == 0, done.stderr
    names = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert names == {name: models.PREFIX + name for name in models.CLASSES}


@pytest.mark.slow
@pytest.mark.parametrize("name", models.CLASSES)
def test_plain_folders_load_with_all_their_weights(name, tmp_path):
    model = models.build(name)
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert type(again) is type(model)
    assert np.array_equal(models.outputs_of(again), models.outputs_of(model))


def test_transformers_alone_does_not_load_random_factors(folder):
    with pytest.raises(OSError, match="no file named"):
        models.class_named("BertForSequenceClassification").from_pretrained(folder)


def test_the_report_has_the_sizes_of_the_files(case, tmp_path):
    _, _, small, report = case
    small.save_pretrained(tmp_path)
    found = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert found == report.file_bytes_after
    header = (tmp_path / folders.WEIGHTS).stat().st_size - report.bytes_after
    assert 0 < header < 200 * len(stored_tensors(small))


def test_a_compressed_model_can_be_compressed_further(classifier):
    once, _ = compress(classifier, CONFIG, "encoder")
    twice, report = compress(once, CONFIG, "word_embeddings")
    assert len(adapter.factored_layers(twice)) == 1 + len(adapter.factored_layers(once))
    assert {row.layer_type for row in report.skipped} >= {"MessiDense"}
    both, _ = compress(classifier, CONFIG, ["encoder", "word_embeddings"])
    assert np.array_equal(models.outputs_of(twice), models.outputs_of(both))


def test_what_is_frozen_stays_frozen(classifier):
    model = models.build("BertForSequenceClassification")
    models.freeze_encoder(model)
    small, _ = compress(model, CONFIG)
    trained = {id(weight) for weight in models.trained_weights(small)}
    for path, layer in adapter.factored_layers(small).items():
        found = {id(x.value) in trained for x in layer.trainable_variables}
        assert found == {"encoder" not in path}


def test_token_ids_out_of_range_are_refused_as_by_the_model(classifier, small):
    ids = {"input_ids": models.tensor(np.array([[3, 60]]))}
    raised = []
    for network in (classifier, small):
        with pytest.raises(Exception) as error:  # noqa: PT011, B017
            models.outputs_of(network, ids)
        raised.append(type(error.value))
    assert raised[0] is raised[1]


def test_resizing_the_tokens_is_refused(small):
    assert small.resize_token_embeddings(60) is small.get_input_embeddings()
    with pytest.raises(ValueError, match="original.*new_num_tokens=70, vocab_size=60"):
        small.resize_token_embeddings(70)


def test_saving_over_a_plain_model_is_refused(small, classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    with pytest.raises(FileExistsError, match=f"another model.*{tmp_path}"):
        small.save_pretrained(tmp_path)
    assert type(from_pretrained(tmp_path)) is type(classifier)


def test_what_cannot_be_done_on_saving_is_refused(small, tmp_path):
    with pytest.raises(ValueError, match="`push_to_hub`"):
        small.save_pretrained(tmp_path, push_to_hub=True)
    for wrong in ("much", 0):
        with pytest.raises(ValueError, match=f"`max_shard_size`.*{wrong}"):
            small.save_pretrained(tmp_path, max_shard_size=wrong)
    assert list(tmp_path.iterdir()) == []


def test_lora_weights_are_trained_copied_and_merged_on_saving(small, tmp_path):
    adapted = hf.replace_layers(small, {})
    modules = (
        adapted.submodules if models.BACKEND == "tensorflow" else adapted.modules()
    )
    layers = [layer for layer in modules if hasattr(layer, "enable_lora")]
    for layer in layers:
        layer.enable_lora(2, b_initializer="he_uniform")
    factored = adapter.factored_layers(adapted)
    assert len(factored) == len(layers)
    moved = moved_by_one_step(adapted)
    for path, layer in factored.items():
        trained = {name.split(adapter.SEPARATOR)[-1] for name in moved if path in name}
        assert trained == {"lora_a", "lora_b"} | ({"bias"} & set(stored(layer))), path
    adapted.save_pretrained(tmp_path)
    loaded = from_pretrained(tmp_path)
    for path, layer in adapter.factored_layers(loaded).items():
        ranks = adapter.factored_layers(small)[path].ranks
        width = layer.storage.shape[1]
        assert layer.ranks == [min(rank + 2, width) for rank in ranks]
    np.testing.assert_allclose(
        models.outputs_of(loaded), models.outputs_of(adapted), atol=1e-5
    )
    assert all(layer.lora_enabled for layer in factored.values())


def test_a_model_in_shards_reloads_and_is_replaced_by_one_file(small, tmp_path):
    small.save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / folders.INDEX).read_text())
    shards = set(index["weight_map"].values())
    assert set(index["weight_map"]) == set(stored_tensors(small))
    assert len(shards) > 1
    assert {"config.json", folders.INDEX} | shards == {
        x.name for x in tmp_path.iterdir()
    }
    assert all((tmp_path / x).stat().st_size < 30_000 for x in shards)
    np.testing.assert_array_equal(
        models.outputs_of(from_pretrained(tmp_path)), models.outputs_of(small)
    )
    (tmp_path / max(shards)).unlink()
    with pytest.raises(ValueError, match=f"{max(shards)}.*without it"):
        from_pretrained(tmp_path)
    small.save_pretrained(tmp_path, max_shard_size="1GB")
    assert {x.name for x in tmp_path.iterdir()} == {"config.json", folders.WEIGHTS}


def test_an_interrupt_while_saving_leaves_the_old_model(folder, small, monkeypatch):
    def interrupted(tensors, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(adapter, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small.save_pretrained(folder)
    assert before == {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`folder`.*config.json.*nowhere"):
        from_pretrained(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="damaged config.json"):
        from_pretrained(tmp_path)


def test_a_folder_without_weights_is_refused(folder, classifier, tmp_path):
    (folder / folders.WEIGHTS).unlink()
    with pytest.raises(ValueError, match=f"{folders.WEIGHTS}.*{folder}"):
        from_pretrained(folder)
    classifier.config.save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="plain.*no file named"):
        from_pretrained(tmp_path / "plain")


@pytest.mark.parametrize("safe", [False, True])
def test_a_plain_folder_without_some_weights_is_refused(safe, tmp_path):
    models.build("BertModel").save_pretrained(tmp_path, safe_serialization=safe)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{tmp_path}, without .*classifier"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "entries",
    [{"model_type": "tree", "architectures": ["TreeModel"]}, {"model_type": "tree"}],
)
def test_an_unknown_architecture_is_refused(entries, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=f"{tmp_path}.*(TreeModel|tree)"):
        from_pretrained(tmp_path)


def test_damaged_weights_are_refused(folder):
    weights = folder / folders.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"damaged weights: {folder}"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda config: config["messi"]["layers"].popitem(), "Missing: .*not expected"),
        (lambda config: config.update(type_vocab_size=5), "shape"),
        (
            lambda config: config["messi"].update(framework="jax"),
            "Received: backend jax",
        ),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(folder, change, complaint):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=complaint):
        from_pretrained(folder)


def test_another_backend_than_the_model_needs_is_refused(
    folder, classifier, monkeypatch
):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for call in (lambda: from_pretrained(folder), lambda: compress(classifier, CONFIG)):
        with pytest.raises(ValueError, match=f"KERAS_BACKEND={models.BACKEND}.*jax"):
            call()


def test_transformers_without_tensorflow_names_what_to_install(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    five = types.SimpleNamespace(__version__="5.0.0")
    monkeypatch.setitem(sys.modules, "transformers", five)
    with pytest.raises(
        ImportError, match=r'kprojclust\[hf-tf\]".*5.0.0 has no TensorFlow'
    ):
        adapter_for("tensorflow")


@pytest.fixture(scope="module")
def minilm(minilm_folder):
    return from_pretrained(minilm_folder)


@pytest.fixture(scope="module")
def sentences(minilm_folder):
    """Token ids of two real sentences."""
    tokenizer = pytest.importorskip("tokenizers").Tokenizer
    reader = tokenizer.from_file(str(minilm_folder / "tokenizer.json"))
    reader.no_padding()
    texts = ["A man is playing a guitar.", "Someone plays the harp, badly, at dawn."]
    return [
        {"input_ids": models.tensor(np.array([reader.encode(text).ids]))}
        for text in texts
    ]


@pytest.mark.slow
def test_minilm_with_its_table_at_full_rank_is_minilm(minilm, sentences):
    small = exact_copy(minilm, "word_embeddings")
    assert [
        layer.num_clusters for layer in adapter.factored_layers(small).values()
    ] == [2]
    for ids in sentences:
        np.testing.assert_allclose(
            models.outputs_of(small, ids), models.outputs_of(minilm, ids), atol=1e-5
        )


@pytest.mark.slow
def test_minilm_reloads_in_a_fresh_process_bit_for_bit(minilm, sentences, tmp_path):
    config = MessiConfig(rate=0.3, num_clusters=1, scope="layer")
    small, report = compress(minilm, config, ["word_embeddings", "query"])
    assert len(report.replaced) == 7
    assert report.parameters_after < 0.84 * report.parameters_before
    small.save_pretrained(tmp_path)
    ids = sentences[0]
    np.savez(tmp_path / "x.npz", **{name: np.array(x) for name, x in ids.items()})
    np.save(tmp_path / "y.npy", models.outputs_of(small, ids))
    script = """
        import sys, numpy as np, keras_messi
        from tests.keras_messi import transformer_models as models
        small = keras_messi.huggingface.from_pretrained(sys.argv[1])
        stored = np.load(sys.argv[1] + "/x.npz")
        ids = {name: models.tensor(stored[name]) for name in stored}
        y = models.outputs_of(small, ids)
        assert np.array_equal(y, np.load(sys.argv[1] + "/y.npy"))
    """
    done = run_python(script, tmp_path)
    assert done.returncode == 0, done.stderr
