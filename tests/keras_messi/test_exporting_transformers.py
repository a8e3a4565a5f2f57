"""Exported models of transformers, run without transformers."""

import numpy as np
import pytest

from keras_messi import (
    MessiConfig,
    RoundingConfig,
    compress,
    export,
    huggingface,
    quantize,
)
from keras_messi.models.adapter import family_of
from tests.keras_messi import transformer_models as models
from tests.keras_messi.test_exporting import litert_interpreter
from tests.keras_messi.transformer_models import BACKEND

if models.MISSING:
    pytest.skip(models.MISSING, allow_module_level=True)

pytestmark = [models.FILTERS, pytest.mark.slow]
FILTERS = ["word_embeddings", "intermediate.dense"]


@pytest.fixture(scope="module")
def small():
    sizes = {**models.LARGER, "num_hidden_layers": 2}
    model = models.build("BertForSequenceClassification", **sizes)
    return compress(
        model, MessiConfig(rate=0.3, num_clusters=3, scope="layer"), FILTERS
    )[0]


def inputs(num_rows, length):
    """Sentences of unequal lengths."""
    rng = np.random.default_rng(0)
    mask = np.arange(length) < rng.integers(1, length + 1, (num_rows, 1))
    return {
        "input_ids": rng.integers(0, 300, mask.shape),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, mask.shape),
    }


def output(model, x):
    """The first output, as an array."""
    ids = "int32" if BACKEND == "tensorflow" else "int64"
    return models.outputs_of(
        model, {name: models.tensor(v.astype(ids)) for name, v in x.items()}
    )


def run_onnx(path, x, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    types = {"tensor(int32)": "int32", "tensor(int64)": "int64"}
    taken = {i.name: x[i.name].astype(types[i.type]) for i in session.get_inputs()}
    return session.run([name], taken)[0]


def run_litert(path, x, name):
    run = litert_interpreter(path).get_signature_runner()
    return run(**{name: v.astype("int32") for name, v in x.items()})[name]


def run_saved_model(path, x, name):
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures["serving_default"]
    return serve(**{k: tf.constant(v, tf.int32) for k, v in x.items()})[name]


RUNNERS = {"model.onnx": run_onnx}
if BACKEND == "tensorflow":
    RUNNERS |= {"model.tflite": run_litert, "model": run_saved_model}


@pytest.mark.parametrize("name", RUNNERS)
def test_the_file_computes_what_the_model_computes(small, tmp_path, name):
    export(small, tmp_path / name)
    for shape in ((2, 5), (1, 9)):
        x = inputs(*shape)
        got = RUNNERS[name](str(tmp_path / name), x, "logits")
        np.testing.assert_allclose(got, output(small, x), atol=1e-5)


@pytest.mark.parametrize("name", RUNNERS)
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_the_file_of_a_quantized_model_computes_the_same(small, tmp_path, name, mode):
    model = quantize(small, mode)
    export(model, tmp_path / name, activations="float32")
    x = inputs(2, 5)
    got = RUNNERS[name](str(tmp_path / name), x, "logits")
    np.testing.assert_allclose(got, output(model, x), atol=1e-5)


def test_a_bert_of_four_bits_is_small_and_close(tmp_path):
    """Its layers are large enough to be multiplied in integers."""
    model = models.build("BertModel", hidden_size=384, intermediate_size=400)
    small, _ = compress(model, RoundingConfig(4, block_size=None), "layer")
    export(small, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_size < 1.1 * family_of(small).saved_size(
        small
    )
    x = {name: ids % 60 for name, ids in inputs(2, 5).items()}
    got = run_onnx(str(tmp_path / "model.onnx"), x, "last_hidden_state")
    want = output(small, x)
    distance = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert 0 < distance < 0.05


def test_minilm_runs_where_it_was_exported_to(minilm_folder, tmp_path):
    """The real one, with a smaller word table, as a phone or a server would run it."""
    model = huggingface.from_pretrained(minilm_folder)
    config = MessiConfig(rate=0.6, num_clusters=2, scope="layer")
    small, _ = compress(model, config, "word_embeddings")
    name = "model.tflite" if BACKEND == "tensorflow" else "model.onnx"
    export(small, tmp_path / name)
    # "a man is playing a guitar", "someone plays the harp"
    ids = [[101, 1037, 2158, 2003, 2652, 1037, 2858, 102], [101, 2619, 3248, 102]]
    for sentence in ids:
        x = {"input_ids": np.array([sentence])}
        x["attention_mask"] = x["input_ids"] > 0
        x["token_type_ids"] = x["input_ids"] < 0
        got = RUNNERS[name](str(tmp_path / name), x, "last_hidden_state")
        np.testing.assert_allclose(got, output(small, x), atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="TensorFlow writes all formats")
def test_torch_models_are_exported_to_onnx_only(small, tmp_path):
    with pytest.raises(ValueError, match='exported with format="onnx".*litert'):
        export(small, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


DECODERS = {
    "GPT2LMHeadModel": {"n_embd": 32, "n_layer": 1, "n_head": 4},
    "T5ForConditionalGeneration": {
        **{"d_model": 32, "d_kv": 8, "d_ff": 48},
        **{"num_layers": 1, "num_heads": 4},
    },
}


@pytest.mark.skipif(BACKEND != "torch", reason="TensorFlow has its own signatures")
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_is_exported_without_its_cache(tmp_path, name):
    cls = models.class_named(name)
    model = cls(cls.config_class(vocab_size=60, **DECODERS[name])).eval()
    caching = model.config.use_cache
    export(model, tmp_path / "model.onnx")
    assert model.config.use_cache == caching
    x = {"input_ids": inputs(2, 5)["input_ids"] % 60}
    x["attention_mask"] = np.ones_like(x["input_ids"])
    other = "decoder_input_ids" if name.startswith("T5") else "token_type_ids"
    x[other] = np.ones((2, 3 if name.startswith("T5") else 5), int)
    got = run_onnx(str(tmp_path / "model.onnx"), x, "logits")
    np.testing.assert_allclose(got, output(model, x), atol=1e-4)
