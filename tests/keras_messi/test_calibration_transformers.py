"""What calibration data tells about models of transformers."""

import csv
from collections import Counter

import keras
import numpy as np
import pytest

from keras_messi import MessiConfig, compress
from keras_messi.calibration.observers import collect_statistics
from keras_messi.models.huggingface import from_pretrained
from keras_messi.models.huggingface import models as hf
from tests.keras_messi import transformer_models as models

if models.MISSING:
    pytest.skip(models.MISSING, allow_module_level=True)

pytestmark = [models.FILTERS, pytest.mark.slow]


def calibrated(model, data, **options):
    places = hf.find_layers(model)
    return collect_statistics(
        model, hf.observe, {x.path: x.layer for x in places}, data, **options
    ).by_path


def tokens():
    """Two texts, the second padded, as numpy arrays."""
    return {name: models.read(x) for name, x in models.tokens().items()}


def named(found, end):
    """The only entry whose path ends so, written with either separator."""
    [entry] = [x for path, x in found.items() if path.replace("/", ".").endswith(end)]
    return entry


def everything_of(model):
    """All that must be as before: weights, and what holds what, by identity."""
    if models.BACKEND == "torch":
        parts = list(model.modules())
        hooks = [len(part._forward_pre_hooks) for part in parts]
        state = [(part.training, *map(id, part.parameters())) for part in parts]
        return [hooks, state, [models.read(x).tobytes() for x in model.parameters()]]
    parts = [model, *model.submodules]
    state = [sorted((name, id(x)) for name, x in attributes(part)) for part in parts]
    return [state, [models.read(weight).tobytes() for weight in model.weights]]


def attributes(part):
    # Not those that are objects made anew at each call.
    return [item for item in vars(part).items() if not item[0].startswith("_")]


@pytest.mark.parametrize("name", models.CLASSES)
def test_every_layer_is_reached_and_the_model_is_unchanged(name):
    model = models.build(name)
    outputs, before = models.outputs_of(model), everything_of(model)
    found = calibrated(model, tokens())
    assert everything_of(model) == before
    assert np.array_equal(models.outputs_of(model), outputs)
    kinds = keras.layers.Dense | keras.layers.Embedding
    places = [x for x in hf.find_layers(model) if isinstance(x.layer, kinds)]
    assert list(found) == [place.path for place in places]


def test_tokens_that_are_no_padding_are_counted_one_by_one():
    x = tokens()
    found = calibrated(models.build("BertForMaskedLM"), x)
    real = [
        int(token)
        for ids, mask in zip(x["input_ids"], x["attention_mask"], strict=True)
        for token, is_real in zip(ids, mask, strict=True)
        if is_real
    ]
    expected = Counter(real)
    words = named(found, "word_embeddings").counts
    assert dict(enumerate(words)) == {i: expected[i] for i in range(60)}
    positions = named(found, "position_embeddings").counts
    assert positions.tolist() == [*x["attention_mask"].sum(axis=0), *23 * [0]]
    assert named(found, "token_type_embeddings").counts.tolist() == [12, 0]


def test_inputs_of_dense_layers_are_the_hidden_states_at_real_tokens():
    model, x = models.build("BertModel"), tokens()
    found = calibrated(model, x)
    states = model(**models.tokens(), output_hidden_states=True).hidden_states
    real = x["attention_mask"] == 1
    for end, expected in {
        "attention.self.query": models.read(states[0])[real],
        "pooler.dense": models.read(states[1])[:, 0],
    }.items():
        inputs = named(found, end)
        assert inputs.count == len(expected)
        np.testing.assert_allclose(inputs.mean, expected.mean(axis=0), atol=1e-5)
        covariance = np.cov(expected, rowvar=False, bias=True)
        np.testing.assert_allclose(inputs.covariance, covariance, atol=1e-5)


def test_ids_alone_are_data_too():
    x = tokens()["input_ids"]
    found = calibrated(models.build("DistilBertModel"), x)
    assert named(found, "word_embeddings").counts.sum() == x.size
    batches = [{"input_ids": x.tolist()}, {"input_ids": x[:1].tolist()}]
    found = calibrated(models.build("DistilBertModel"), batches)
    assert named(found, "word_embeddings").counts.sum() == 1.5 * x.size


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # TensorFlow models check that themselves.
        ({"input_ids": np.full((2, 7), 60)}, "to 59. Received: 60|id.* dimension .60."),
        ({"input_ids": np.full((2, 7), 1.5)}, "what the model takes|must give token"),
        ({"input_ids": np.ones((2, 31), int)}, "what the model takes|0 to 29. .*: 30"),
        ({**tokens(), "input_ids": np.ones((3, 7), int)}, "as many rows each"),
        ({"images": np.ones((2, 7), int)}, "must be what the model takes"),
    ],
    ids=["vocabulary", "fractions", "length", "rows", "name"],
)
def test_data_that_does_not_fit_is_named_and_the_model_unchanged(data, message):
    model = models.build("BertForMaskedLM")
    before = everything_of(model)
    with pytest.raises(ValueError, match="(?s)^`calibration_data` .*" + message):
        calibrated(model, data)
    assert everything_of(model) == before


def test_kernels_in_sequence_lose_less_and_the_model_is_unchanged():
    model = models.build("BertModel")
    outputs, before = models.outputs_of(model), everything_of(model)
    changes = []
    for sequential in (False, True):
        config = MessiConfig(0.6, 1, scope="layer", sequential=sequential)
        data = [tokens()] * 2
        small, report = compress(model, config, "encoder", calibration_data=data)
        changes.append(np.square(models.outputs_of(small) - outputs).sum())
        assert len(report.replaced) == 6
    assert changes[1] < changes[0]
    assert everything_of(model) == before


def test_modes_of_a_torch_model_are_set_back():
    if models.BACKEND != "torch":
        pytest.skip("PyTorch only")
    model = models.build("BertModel").train()
    model.encoder.eval()
    modes = [module.training for module in model.modules()]
    first, again = (calibrated(model, tokens()) for _ in range(2))
    assert [module.training for module in model.modules()] == modes
    for path, sample in first.items():  # without dropout
        if path.endswith("dense"):
            assert np.array_equal(sample.covariance, again[path].covariance)


@pytest.fixture(scope="module")
def sentences(data_folder):
    """The first sentences of 64 training pairs of STS-B."""
    with open(data_folder / "glue/STS-B/train.tsv", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence1"] for row in rows[:64]]


def test_minilm_on_real_sentences(minilm_folder, sentences):
    tokenizers = pytest.importorskip("tokenizers")
    reader = tokenizers.Tokenizer.from_file(str(minilm_folder / "tokenizer.json"))
    reader.enable_padding()
    encodings = reader.encode_batch(sentences)
    model = from_pretrained(minilm_folder)
    data = [
        {
            "input_ids": [x.ids for x in encodings[i : i + 32]],
            "attention_mask": [x.attention_mask for x in encodings[i : i + 32]],
        }
        for i in (0, 32)
    ]
    found = calibrated(model, data)
    reader.no_padding()
    expected = Counter(t for text in sentences for t in reader.encode(text).ids)
    words = named(found, "word_embeddings").counts
    assert dict(enumerate(words)) == {i: expected[i] for i in range(30522)}
    assert named(found, "position_embeddings").counts[0] == len(sentences)
    assert len(found) == 3 + 6 * 6 + 1
    assert named(found, "5.output.dense").covariance.shape == (1536, 1536)
