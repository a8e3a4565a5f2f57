import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_messi import MessiConfig, compress
from keras_messi.layers import MessiDense, MessiEmbedding
from keras_messi.models.keras.saving import load_model, save_model
from keras_messi.models.keras.surgery import find_layers
from keras_messi.report import SkipReason
from kprojclust import make_subspaces
from tests.keras_messi import models


@pytest.fixture(scope="module", params=models.ALL)
def model(request):
    """A model of each kind, shared by the tests below."""
    keras.utils.set_random_seed(0)
    return request.param()


@pytest.fixture(scope="module")
def before(model):
    """Outputs of the model, and its state after the call, which changes lambdas."""
    return models.outputs_of(model), models.snapshot(model)


@pytest.fixture(scope="module")
def compressed(model, before):
    """The compressed model and its report."""
    return compress(model, MessiConfig(rate=0.5, num_clusters=2, scope="layer"))


def layers_of(model):
    return {place.path: place.layer for place in find_layers(model)}


def test_the_given_model_is_left_as_it_is(model, before, compressed):
    outputs, state = before
    models.assert_unchanged(model, state)
    assert np.array_equal(models.outputs_of(model), outputs)


def test_the_new_model_computes_with_the_matrices_that_it_reports(model, compressed):
    small, report = compressed
    old, new = layers_of(model), layers_of(small)
    reordered = {path for pair in report.folded for path in (pair.path, pair.producer)}
    kept = [row for row in report.replaced if row.path not in reordered]
    assert kept
    for row in kept:
        layer = new[row.path]
        assert isinstance(layer, MessiDense | MessiEmbedding)
        name = "kernel" if isinstance(layer, MessiDense) else "embeddings"
        before, after = (
            ops.convert_to_numpy(getattr(side[row.path], name)) for side in (old, new)
        )
        error = np.sum((after - before) ** 2) / np.sum(before**2)
        assert row.relative_error == pytest.approx(error, rel=1e-3)
        assert 0 < error < 1
        assert row.shape == before.shape


def test_the_report_counts_real_variables(compressed):
    small, report = compressed
    folded = {pair.path for pair in report.folded}
    for row in report.replaced:
        n, d = row.shape
        layer = layers_of(small)[row.path]
        numbers = sum(
            j * (size + d)
            for j, size in zip(row.ranks, layer.cluster_sizes, strict=True)
        )
        bias = 0 if getattr(layer, "bias", None) is None else d
        assert row.num_clusters == layer.num_clusters
        assert row.parameters_before == n * d + bias
        assert row.parameters_after == numbers + bias
        assert numbers <= 0.5 * n * d
        ids = 0 if layer.routing is None else n  # a byte per cluster id
        assert row.bytes_after == 4 * row.parameters_after + ids
        assert (layer.routing is None) == (row.path in folded)
    saved = sum(r.parameters_before - r.parameters_after for r in report.replaced)
    assert report.parameters_before - report.parameters_after == saved


def test_file_sizes_are_those_on_disk(model, compressed, tmp_path):
    small, report = compressed
    save_model(small, tmp_path / "small.keras")
    save_model(model, tmp_path / "model.keras")
    assert (tmp_path / "small.keras").stat().st_size == report.file_bytes_after
    assert (tmp_path / "model.keras").stat().st_size == report.file_bytes_before


def test_a_saved_model_computes_bit_for_bit_the_same(model, compressed, tmp_path):
    if any(isinstance(p.layer, keras.layers.Lambda) for p in find_layers(model)):
        pytest.skip("Keras does not load Python lambdas in safe mode")
    small, _ = compressed
    save_model(small, tmp_path / "small.keras")
    again = load_model(tmp_path / "small.keras")
    assert np.array_equal(models.outputs_of(again), models.outputs_of(small))


def test_every_layer_with_weights_is_replaced_or_skipped(compressed):
    _, report = compressed
    listed = [row.path for row in (*report.replaced, *report.skipped)]
    assert len(listed) == len(set(listed))
    parameters = sum(row.parameters_before for row in report.replaced)
    parameters += sum(row.parameters for row in report.skipped)
    assert parameters == report.parameters_before


def test_training_the_new_model_leaves_the_given_one_as_it_is(
    model, before, compressed
):
    """The last test of each model, as it changes the new one."""
    small, _ = compressed
    small.compile("sgd", "mse")
    x = models.inputs_of(small)
    small.fit(x, np.zeros_like(models.outputs_of(small)), verbose=0)
    models.assert_unchanged(model, before[1])


def test_a_table_on_two_planes_is_kept_up_to_rounding():
    rows, _, _ = make_subspaces(200, 6, n_clusters=2, n_components=2, random_state=0)
    tokens = keras.Input((None,), dtype="int32")
    words = keras.layers.Embedding(200, 6, name="words")
    model = keras.Model(tokens, words(tokens))
    words.set_weights([rows])
    small, report = compress(model, MessiConfig(rank=2, num_clusters=2))
    assert report.replaced[0].relative_error < 1e-10
    outputs = models.outputs_of(small), models.outputs_of(model)
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_one_cluster_is_the_svd():
    keras.utils.set_random_seed(0)
    model = models.sequential()
    _, report = compress(model, MessiConfig(rank=5, num_clusters=1), filters="first")
    kernel = ops.convert_to_numpy(model.get_layer("first").kernel)
    values = np.linalg.svd(kernel, compute_uv=False) ** 2
    expected = values[5:].sum() / values.sum()
    assert report.replaced[0].relative_error == pytest.approx(expected, rel=1e-4)
    assert report.replaced[0].bytes_after == 4 * (5 * 70 + 30)  # and no cluster ids


def test_a_seed_repeats_and_another_one_differs():
    keras.utils.set_random_seed(0)
    model = models.sequential()
    errors = [
        compress(
            model,
            MessiConfig(rate=0.6, num_clusters=3, seed=seed, scope="layer"),
            "first",
        )[1]
        .replaced[0]
        .relative_error
        for seed in (0, 0, 1)
    ]
    assert errors[0] == errors[1] != errors[2]


def test_layers_keep_name_activation_precision_and_regularizer():
    dense = keras.layers.Dense(
        20,
        activation="gelu",
        name="wide",
        dtype="mixed_bfloat16",
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L1(0.2),
        bias_constraint="non_neg",
        trainable=False,
    )
    model = keras.Sequential([keras.Input((40,)), dense])
    small, _ = compress(model, MessiConfig(rate=0.5, num_clusters=2, scope="layer"))
    layer = small.get_layer("wide")
    assert layer.activation is keras.activations.gelu
    assert layer.dtype_policy.name == "mixed_bfloat16"
    assert float(layer.factors_regularizer.l2) == pytest.approx(0.1)
    assert float(layer.activity_regularizer.l1) == pytest.approx(0.2)
    assert isinstance(layer.bias_constraint, keras.constraints.NonNeg)
    assert not layer.trainable
    assert not small.trainable_weights


def test_masks_reach_the_layers_behind():
    tokens = keras.Input((5,), dtype="int32")
    words = keras.layers.Embedding(50, 24, mask_zero=True, name="words")(tokens)
    model = keras.Model(tokens, keras.layers.GlobalAveragePooling1D()(words))
    small, _ = compress(model, MessiConfig(rate=0.5, num_clusters=2, scope="layer"))
    padded = np.array([[3, 4, 0, 0, 0]], dtype="int32")
    table = ops.convert_to_numpy(small.get_layer("words").embeddings)
    np.testing.assert_allclose(
        ops.convert_to_numpy(small(padded))[0], table[[3, 4]].mean(axis=0), atol=1e-6
    )


# What is skipped, and why


def reasons(report):
    return {layer.path: layer.reason for layer in report.skipped}


def test_the_layers_of_attention_are_replaced_as_others_are():
    _, report = compress(
        models.composite(), MessiConfig(rate=0.5, num_clusters=2, scope="layer")
    )
    kinds = {row.path: row.layer_type for row in report.replaced}
    assert kinds["attention/query_dense"] == "EinsumDense"
    assert kinds["each/layer"] == "Dense"


def test_a_head_that_reads_what_the_factors_lack_keeps_its_layer():
    model = models.tied("_embeddings")
    small, report = compress(
        model, MessiConfig(rate=0.5, num_clusters=2, scope="layer")
    )
    assert reasons(report) == {"words": SkipReason.REFUSED}
    assert "no attribute '_embeddings'" in report.skipped[0].detail
    assert isinstance(small.words, keras.layers.Embedding)
    assert isinstance(small.dense, MessiDense)
    assert small.count_params() < model.count_params()
    with pytest.raises(ValueError, match="No layer .*has no attribute '_embeddings'"):
        compress(
            model, MessiConfig(rate=0.5, num_clusters=2, scope="layer"), filters="words"
        )


def test_a_head_that_reads_the_table_follows():
    model = models.tied("embeddings")
    small, report = compress(
        model, MessiConfig(rate=0.2, num_clusters=2, scope="layer")
    )
    assert isinstance(small.words, MessiEmbedding)
    assert not report.skipped
    small.compile("sgd", "mse")
    x, before = models.inputs_of(small), ops.convert_to_numpy(small.words.bases)
    small.fit(x, np.ones((4, 6, 50)), verbose=0)
    assert not np.array_equal(ops.convert_to_numpy(small.words.bases), before)


def test_reversible_embeddings_stay_reversible():
    words = keras.layers.ReversibleEmbedding(50, 24, name="words")
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, words(words(tokens), reverse=True))
    small, _ = compress(model, MessiConfig(rate=0.2, num_clusters=2, scope="layer"))
    new = small.get_layer("words")
    assert isinstance(new, MessiEmbedding)
    table = ops.convert_to_numpy(new.embeddings)
    expected = table[models.inputs_of(model)] @ table.T
    np.testing.assert_allclose(models.outputs_of(small), expected, atol=1e-5)


def test_untied_reversible_embeddings_are_two_layers():
    words = keras.layers.ReversibleEmbedding(50, 24, tie_weights=False, name="words")
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, keras.layers.Dense(30)(words(tokens)))
    _, report = compress(model, MessiConfig(rate=0.2, num_clusters=1, scope="layer"))
    assert [row.path for row in report.replaced][:2] == [
        "words/embeddings",
        "words/reverse_embeddings",
    ]


def test_a_new_name_is_no_new_code():
    class Renamed(keras.layers.Dense):
        pass

    model = keras.Sequential([keras.Input((40,)), Renamed(30, name="renamed")])
    _, report = compress(model, MessiConfig(rate=0.5, num_clusters=2, scope="layer"))
    assert [row.layer_type for row in report.replaced] == ["Renamed"]


def test_a_compiled_model_with_its_own_compile_says_so():
    class Own(models.Tower):
        def compile(self):
            super().compile("sgd", "mse")

    model = Own()
    model(models.inputs_of(model))
    model.compile()
    with pytest.warns(UserWarning, match="must be compiled again: its class Own"):
        small, _ = compress(model, MessiConfig(rate=0.5, num_clusters=2, scope="layer"))
    assert not small.compiled


def test_compressing_twice_adds_to_the_first_time():
    model = models.subclassed()
    once, _ = compress(
        model, MessiConfig(rate=0.5, num_clusters=2, scope="layer"), "words"
    )
    twice, report = compress(
        once, MessiConfig(rate=0.5, num_clusters=2, scope="layer"), "blocks"
    )
    assert isinstance(twice.words, MessiEmbedding)
    assert isinstance(twice.blocks[1].steps[0], MessiDense)
    assert all(row.path.startswith("blocks") for row in report.replaced)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(twice)
    )
    assert again.count_params() == twice.count_params()


def test_reasons_from_filters_sizes_and_rates():
    inputs = keras.Input((40,))
    x = keras.layers.Dense(30, name="good")(inputs)
    x = keras.layers.Dense(2, name="few", kernel_constraint="max_norm")(x)
    x = keras.layers.Dense(9, name="thin")(x)
    x = keras.layers.Dense(12, name="flat")(x)
    model = keras.Model(inputs, keras.layers.Dense(30, name="other")(x))
    _, report = compress(
        model,
        MessiConfig(rate=0.8, num_clusters=3, scope="layer"),
        ["good", "few", "thin", "flat"],
    )
    assert [row.path for row in report.replaced] == ["good"]
    assert reasons(report) == {
        "few": SkipReason.CONSTRAINED,
        "thin": SkipReason.TOO_FEW_ROWS,
        "flat": SkipReason.NO_RANK,
        "other": SkipReason.FILTERED_OUT,
    }


def test_ranks_too_large_or_too_costly_are_skipped():
    model = models.sequential()
    _, report = compress(model, MessiConfig(rank=9, num_clusters=1))
    assert reasons(report)["head"] == SkipReason.RANK_TOO_LARGE
    _, report = compress(model, MessiConfig(rank=2, num_clusters=3))
    assert reasons(report)["head"] == SkipReason.WOULD_GROW


def test_quantized_and_adapted_layers_are_skipped():
    model = models.sequential()
    model.get_layer("first").quantize("int8")
    model.get_layer("second").enable_lora(2)
    with pytest.raises(ValueError, match="quantized or with LoRA"):
        compress(
            model,
            MessiConfig(rate=0.5, num_clusters=2, scope="layer"),
            ["first", "second"],
        )


def test_subclasses_of_dense_may_compute_something_else():
    class Doubled(keras.layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    model = keras.Sequential([keras.Input((40,)), Doubled(30), keras.layers.Dense(30)])
    _, report = compress(model, MessiConfig(rate=0.5, num_clusters=2, scope="layer"))
    assert [row.reason for row in report.skipped] == [SkipReason.NOT_SUPPORTED]


@pytest.mark.parametrize(
    "kernel",
    [np.zeros((40, 30)), np.ones((40, 30)), np.repeat(np.eye(2, 30), 20, axis=0)],
    ids=["zero", "constant", "duplicates"],
)
def test_matrices_with_few_distinct_rows_are_exact_with_few_clusters(kernel):
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(30, name="same")])
    model.layers[0].set_weights([kernel, np.zeros(30)])
    small, report = compress(
        model, MessiConfig(rate=0.5, num_clusters=5, scope="layer")
    )
    assert report.replaced[0].relative_error < 1e-10
    assert report.replaced[0].num_clusters <= 2
    np.testing.assert_allclose(
        ops.convert_to_numpy(small.layers[0].kernel), kernel, atol=1e-5
    )


# Bad input


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_must_be_finite_and_nothing_changes(value):
    model = models.sequential()
    kernel, bias = model.get_layer("second").get_weights()
    kernel[3, 4] = value
    model.get_layer("second").set_weights([kernel, bias])
    with pytest.raises(ValueError, match="`kernel` of layer 'second' must be finite"):
        compress(model, MessiConfig(rate=0.5, num_clusters=2, scope="layer"))


def test_filters_that_match_nothing_are_an_error():
    with pytest.raises(
        ValueError, match=r"`filters` must match a layer.*'frist'.*first"
    ):
        compress(
            models.sequential(), MessiConfig(rate=0.5, scope="layer"), filters="frist"
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            MessiConfig(rate=0.5, num_clusters=41, scope="layer"),
            "num_clusters=41, 40 rows",
        ),
        (
            MessiConfig(rate=0.99, num_clusters=5, scope="layer"),
            "rate=0.99 .* leaves rank 0",
        ),
        (MessiConfig(rank=31, num_clusters=1), "rank=31, width 30"),
    ],
)
def test_a_config_that_fits_no_layer_says_why(config, message):
    with pytest.raises(ValueError, match=message):
        compress(models.sequential(), config, filters="first")


# The report as people and programs see it


def test_the_report_prints_and_serializes():
    _, report = compress(
        models.sequential(),
        MessiConfig(rate=0.5, num_clusters=2, scope="layer"),
        ["first", "second"],
    )
    text = str(report)
    for part in ("first", "40 x 30", "second", "filtered out", "whole model", " x"):
        assert part in text
    loaded = json.loads(report.to_json())
    assert loaded == json.loads(json.dumps(report.to_dict()))
    assert loaded["replaced"][0]["path"] == "first"


def test_a_progress_bar_goes_to_stderr_if_asked(capsys):
    compress(
        models.sequential(),
        MessiConfig(rate=0.5, num_clusters=2, scope="layer"),
        verbose=True,
    )
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "100%" in captured.err
