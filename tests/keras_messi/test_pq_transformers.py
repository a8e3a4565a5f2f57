"""Models of transformers whose layers became codebooks and codes."""

import numpy as np
import pytest
from keras import ops

from keras_messi import PQConfig, compress, compress_in_groups
from keras_messi.layers import PQDense, PQEmbedding
from keras_messi.models.huggingface import from_pretrained
from keras_messi.models.huggingface import models as hf
from tests.keras_messi import transformer_models as models

if models.MISSING:
    pytest.skip(models.MISSING, allow_module_level=True)

pytestmark = [models.FILTERS, pytest.mark.slow]
CONFIG = PQConfig(block_size=4, num_codewords=16)


@pytest.fixture(scope="module")
def pair():
    model = models.build("BertForMaskedLM")
    return model, *compress(model, CONFIG)


def test_the_word_table_and_dense_layers_become_codes(pair):
    _, small, report = pair
    kinds = {type(place.layer) for place in hf.find_layers(small)}
    assert {PQDense, PQEmbedding} <= kinds
    assert report.bytes_after == hf.stored_bytes(small) < report.bytes_before


def test_tied_logits_are_those_of_the_coded_table(pair):
    model, small, _ = pair
    assert models.outputs_of(small).shape == models.outputs_of(model).shape
    tables = [p.layer for p in hf.find_layers(small) if "word" in p.path]
    (words,) = tables
    hidden = np.ones((1, words.output_dim), "float32")
    logits = ops.convert_to_numpy(words(hidden, reverse=True))
    table = ops.convert_to_numpy(words.embeddings)
    np.testing.assert_allclose(logits, hidden @ table.T, atol=1e-5)


def test_a_saved_folder_gives_the_same_bits(pair, tmp_path):
    _, small, _ = pair
    small.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert np.array_equal(models.outputs_of(again), models.outputs_of(small))


def test_groups_are_coded_one_after_the_other():
    model = models.build("BertForMaskedLM")
    coded = []

    def fine_tune(small):
        layers = [place.layer for place in hf.find_layers(small)]
        coded.append(sum(isinstance(x, PQDense | PQEmbedding) for x in layers))

    groups = ["word_embeddings", "intermediate"]
    small, reports = compress_in_groups(model, CONFIG, groups, fine_tune)
    sizes = [len(report.replaced) for report in reports]
    assert coded == [sizes[0], sum(sizes)]
    assert reports[1].bytes_after == hf.stored_bytes(small)
    expected, _ = compress(model, CONFIG, groups)
    np.testing.assert_allclose(
        models.outputs_of(small), models.outputs_of(expected), atol=1e-4
    )
