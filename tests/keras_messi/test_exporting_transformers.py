"""Exported models of transformers, run without transformers."""

import keras
import numpy as np
import pytest

from keras_messi import MessiConfig, compress, export
from tests.keras_messi.test_exporting import litert_interpreter

BACKEND = keras.backend.backend()
transformers = pytest.importorskip("transformers")
PREFIX = {"tensorflow": "TF", "torch": ""}.get(BACKEND)
if PREFIX is None or not hasattr(transformers, f"{PREFIX}PreTrainedModel"):
    pytest.skip("transformers has no models for this backend", allow_module_level=True)
FILTERS = ["word_embeddings", "intermediate.dense"]


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)
    config = transformers.BertConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
    )
    model_class = getattr(transformers, f"{PREFIX}BertForSequenceClassification")
    model = model_class(config)
    if BACKEND == "tensorflow":
        model.build_in_name_scope()
    else:
        model.eval()
    return compress(model, MessiConfig(rate=0.3, num_clusters=3), FILTERS)[0]


def inputs(num_rows, length):
    """Sentences of unequal lengths."""
    rng = np.random.default_rng(0)
    mask = np.arange(length) < rng.integers(1, length + 1, (num_rows, 1))
    return {
        "input_ids": rng.integers(0, 300, mask.shape),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, mask.shape),
    }


def logits(model, x):
    if BACKEND == "tensorflow":
        return model({k: v.astype("int32") for k, v in x.items()}).logits.numpy()
    import torch

    with torch.no_grad():
        tensors = {name: torch.tensor(v.astype("int64")) for name, v in x.items()}
        return model(**tensors).logits.numpy()


def run_onnx(path, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    types = {"tensor(int32)": "int32", "tensor(int64)": "int64"}
    taken = {i.name: x[i.name].astype(types[i.type]) for i in session.get_inputs()}
    return session.run(["logits"], taken)[0]


def run_litert(path, x):
    run = litert_interpreter(path).get_signature_runner()
    return run(**{name: v.astype("int32") for name, v in x.items()})["logits"]


def run_saved_model(path, x):
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures["serving_default"]
    return serve(**{k: tf.constant(v, tf.int32) for k, v in x.items()})["logits"]


RUNNERS = {"model.onnx": run_onnx}
if BACKEND == "tensorflow":
    RUNNERS |= {"model.tflite": run_litert, "model": run_saved_model}


@pytest.mark.parametrize("name", RUNNERS)
def test_the_file_computes_what_the_model_computes(small, tmp_path, name):
    export(small, tmp_path / name)
    for shape in ((2, 5), (1, 9)):
        x = inputs(*shape)
        got = RUNNERS[name](str(tmp_path / name), x)
        np.testing.assert_allclose(got, logits(small, x), atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="TensorFlow writes all formats")
def test_torch_models_are_exported_to_onnx_only(small, tmp_path):
    with pytest.raises(ValueError, match='exported with format="onnx".*litert'):
        export(small, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())
