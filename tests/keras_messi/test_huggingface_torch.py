"""What only PyTorch models of transformers do."""

import copy
import io

import numpy as np
import pytest

from keras_messi import RoundingConfig, compress
from keras_messi.layers.storage.factors import Factors
from keras_messi.models.huggingface import from_pretrained
from keras_messi.models.huggingface import models as hf
from tests.keras_messi import transformer_models as models

if models.MISSING or models.BACKEND != "torch":
    pytest.skip(models.MISSING or "PyTorch only", allow_module_level=True)

import torch
from transformers import BertModel, T5Config, T5ForConditionalGeneration

pytestmark = models.FILTERS
CONFIG = models.CONFIG
small = models.small


def logits(model):
    with torch.no_grad():
        return model(**models.tokens())[0]


def test_state_dict_saves_and_loads_all_weights(small):
    file = io.BytesIO()
    torch.save(small.state_dict(), file)
    file.seek(0)
    again = hf.replace_layers(small, {})
    for weight in again.parameters():
        weight.data.zero_()
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(logits(again), logits(small))


def test_names_in_the_state_dict_do_not_depend_on_what_was_made_before(small):
    again, _ = compress(models.build("BertForMaskedLM"), CONFIG)
    assert list(again.state_dict()) == list(small.state_dict())


def test_a_deep_copy_is_equal_and_apart(small):
    before = logits(small)
    other = copy.deepcopy(small)
    assert torch.equal(logits(other), before)
    models.train_one_step(other)
    assert not torch.equal(logits(other), before)
    assert torch.equal(logits(small), before)


def test_the_tied_head_follows_the_embedding(small, monkeypatch):
    head = small.get_output_embeddings()
    assert head.bias is small.cls.predictions.bias
    assert not any("decoder" in name for name, _ in small.named_parameters())
    small.tie_weights()
    assert small.get_output_embeddings() is head
    monkeypatch.setattr(Factors, "matrix", None)
    assert logits(small).shape == (2, 7, 60)


def test_a_head_that_is_not_tied_is_compressed_by_itself():
    model = models.build("BertForMaskedLM", tie_word_embeddings=False)
    small, report = compress(model, CONFIG, ["decoder"])
    assert [row.path for row in report.replaced] == ["cls.predictions.decoder"]
    assert type(small.get_input_embeddings()) is torch.nn.Embedding


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_is_that_of_the_model(training, tmp_path):
    small, _ = compress(models.build("BertModel").train(training), CONFIG)
    assert {module.training for module in small.modules()} >= {training}
    assert small.training is training
    small.save_pretrained(tmp_path)
    assert not from_pretrained(tmp_path).training


def test_bfloat16_stays(tmp_path):
    model = models.build("BertModel").to(torch.bfloat16)
    small, report = compress(model, CONFIG)
    assert logits(small).dtype is torch.bfloat16
    assert report.bytes_after < 2.2 * report.parameters_after
    small.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(small))


def test_a_layer_that_the_config_does_not_build_is_refused():
    model = models.build("BertModel")
    model.embeddings.other = torch.nn.Embedding(60, 24)
    model.embeddings.other.weight = model.embeddings.word_embeddings.weight
    with pytest.raises(ValueError, match=r"Embedding at embeddings.other .* no layer"):
        compress(model, CONFIG)


def test_a_model_that_its_config_does_not_build_is_refused():
    class Scaled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = models.build("BertModel")
    model.pooler.dense = Scaled(24, 24)
    with pytest.raises(ValueError, match="a Scaled at pooler.dense.* of a Linear"):
        compress(model, CONFIG)
    model.pooler.dense = model.encoder.layer[0].output
    with pytest.raises(ValueError, match="class and config. Missing: .'pooler.dense"):
        compress(model, CONFIG)


def test_hidden_states_are_given_out(small):
    outputs = small(**models.tokens(), output_hidden_states=True)
    assert len(outputs.hidden_states) == 2


def test_a_weight_that_is_replaced_can_be_read(small):
    for path, layer in hf.adapter_for("torch").factored_layers(small).items():
        module = small.get_submodule(path)
        matrix = layer.storage.matrix("float32")
        expected = matrix.T if isinstance(module, torch.nn.Linear) else matrix
        assert torch.equal(module.weight, expected)
        with pytest.raises((AttributeError, KeyError)):
            module.weight = torch.nn.Parameter(expected)


def test_a_model_that_asks_for_the_dtype_of_a_weight_is_compressed():
    sizes = {"vocab_size": 60, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 1}
    model = T5ForConditionalGeneration(T5Config(**sizes, num_heads=2)).eval()
    small, report = compress(model, CONFIG)
    assert [row.path for row in report.replaced if row.path.endswith(".wo")]
    assert report.output_change < 1


class WithRecurrence(BertModel):
    def __init__(self, config):
        super().__init__(config)
        self.gru = torch.nn.GRU(24, 24, batch_first=True)

    def forward(self, *args, **kwargs):
        return self.gru(super().forward(*args, **kwargs)[0])


def test_weights_that_code_reads_are_compressed():
    model = WithRecurrence(models.build("BertModel").config).eval()
    small, report = compress(model, RoundingConfig(8, None), "gru")
    names = {"gru.weight_ih_l0", "gru.weight_hh_l0"}
    assert {row.path for row in report.replaced} == names
    assert names.isdisjoint(dict(small.named_parameters()))
    assert report.output_change < 0.01


class KeepsWeight(BertModel):
    """It holds a weight in a function, too."""

    def __init__(self, config):
        super().__init__(config)
        self.last = torch.nn.Linear(24, 24)
        weight = self.last.weight
        self.multiply = lambda x: x @ weight.T

    def forward(self, *args, **kwargs):
        return (self.multiply(super().forward(*args, **kwargs)[0]),)


class AsksForParameter(BertModel):
    """It asks a layer for its parameters."""

    def __init__(self, config):
        super().__init__(config)
        self.last = torch.nn.Linear(24, 24)

    def forward(self, *args, **kwargs):
        outputs = self.last(super().forward(*args, **kwargs)[0])
        assert "weight" in dict(self.last.named_parameters()), "no weight"
        return (outputs,)


@pytest.mark.parametrize(
    ("model_class", "reason"),
    [
        (KeepsWeight, "the model then gives no finite numbers"),
        (AsksForParameter, "the model then fails, with AssertionError: no weight"),
    ],
)
def test_layers_that_a_model_can_not_do_without_are_refused(model_class, reason):
    model = model_class(models.build("BertModel").config).eval()
    small, report = compress(model, CONFIG, ["last", "query"])
    (row,) = [row for row in report.skipped if row.detail]
    assert row.path == "last"
    assert row.detail.startswith(reason)
    assert len(report.replaced) == 1
    assert np.isfinite(models.outputs_of(small)).all()


def test_a_subclass_with_code_of_its_own_keeps_it():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    class WithDoubled(BertModel):
        def __init__(self, config):
            super().__init__(config)
            self.pooler.dense = Doubled(24, 24)

    model = WithDoubled(models.build("BertModel").config).eval()
    small, report = compress(model, RoundingConfig(8, None), "pooler")
    assert [row.path for row in report.replaced] == ["pooler.dense"]
    assert report.output_change < 0.01
    pooled = [x(**models.tokens()).pooler_output for x in (model, small)]
    torch.testing.assert_close(*pooled, atol=0.02, rtol=0)
