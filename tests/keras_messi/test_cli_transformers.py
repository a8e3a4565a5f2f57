"""The command line on folders of Hugging Face transformers."""

import json
import os
from itertools import chain

import pytest

from keras_messi import huggingface
from keras_messi.cli import main
from keras_messi.cli.calibration_files import read_calibration
from tests.keras_messi import transformer_models as models

if models.MISSING:
    pytest.skip(models.MISSING, allow_module_level=True)

pytestmark = [models.FILTERS, pytest.mark.slow]


@pytest.fixture
def folder(tmp_path):
    """A folder as a hub has it: model, tokenizer, notes."""
    model = models.build("BertForSequenceClassification", **models.LARGER)
    model.save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("[PAD]\nword\n")
    return tmp_path / "bert"


def test_inspect_names_the_layers_of_a_bert(folder, capsys):
    assert main(["inspect", str(folder), "--rate", "0.4", "--num-clusters", "2"]) == 0
    table = capsys.readouterr().out
    (words,) = [x for x in table.splitlines() if "word_embeddings" in x.split()[0]]
    assert "300 x 32" in words
    assert "rate=0.4" in table


def test_compress_writes_a_folder_that_loads(folder, tmp_path, capsys):
    small = tmp_path / "small"
    arguments = ["compress", str(folder), str(small), "--rate", "0.4"]
    arguments += ["--num-clusters", "2", "--filters", "word_embeddings"]
    assert main(arguments) == 0
    assert "word_embeddings" in capsys.readouterr().out
    assert (small / "vocab.txt").read_text() == "[PAD]\nword\n"
    weights = ["config.json", "messi.safetensors", "vocab.txt"]
    assert sorted(set(os.listdir(small)) - {"generation_config.json"}) == weights
    assert json.loads((small / "config.json").read_text())["messi"]
    model = huggingface.from_pretrained(small)
    assert models.outputs_of(model).shape == (2, 2)
    assert main(arguments) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0


def test_texts_calibrate_a_model_within_a_size(folder, tmp_path, capsys):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "word", "##s"]
    (folder / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "texts.txt").write_text("a word\n\nwords a a\n" * 40)
    files = [str(folder), str(tmp_path / "small")]
    data = ["--calibration", str(tmp_path / "texts.txt")]
    assert main(["compress", *files, "--times-smaller", "3", *data]) == 0
    assert "stored in" in capsys.readouterr().out
    model = huggingface.from_pretrained(tmp_path / "small")
    assert models.outputs_of(model).shape == (2, 2)
    (tmp_path / "texts.txt").write_text("\n")
    assert main(["compress", *files, "--force", "--rate", "0.4", *data]) == 1
    assert "must have a text on each line" in capsys.readouterr().err


def test_a_first_batch_of_texts_is_of_all_kinds_and_the_rest_goes_by_length(
    folder, tmp_path
):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    (folder / "vocab.txt").write_text("\n".join(words))
    lengths = [1 + i // 20 for i in range(200)]
    (tmp_path / "texts.txt").write_text("\n".join("a " * n for n in lengths))
    batches = read_calibration(tmp_path / "texts.txt", folder)
    found = [[int(row.sum()) - 2 for row in x["attention_mask"]] for x in batches]
    assert sorted(chain(*found)) == lengths
    assert set(found[0]) == set(lengths)
    assert list(chain(*found[1:])) == sorted(chain(*found[1:]))


def test_a_plain_folder_is_never_overwritten(folder, tmp_path, capsys):
    before = sorted(os.listdir(folder))
    arguments = ["compress", str(folder), str(folder), "--rate", "0.4", "--force"]
    assert main(arguments) == 1
    assert "messi.safetensors" in capsys.readouterr().err
    assert sorted(os.listdir(folder)) == before


def test_a_folder_without_a_model_is_named(tmp_path, capsys):
    assert main(["inspect", str(tmp_path)]) == 1
    assert "config.json" in capsys.readouterr().err
