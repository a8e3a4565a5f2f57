"""The search for k: against all k, taken up again, with scores that fail."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_messi import MessiConfig, compress, search
from keras_messi.cli.demo import accuracy
from kprojclust import KSubspaces
from tests.keras_messi import models, transformer_models

ROOT = Path(__file__).parent.parent.parent
CONFIG = MessiConfig(rate=0.6, ranks="uniform", scope="layer")


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return models.sequential()


def by_k(trials):
    return {trial.num_clusters: trial for trial in trials}


def score_best_at(peak):
    """A score that knows k, and is unimodal in it."""
    return lambda small: -abs(small.get_layer("first").num_clusters - peak)


def facts(trials):
    """All of trials but their times."""
    return [replace(trial, seconds=0) for trial in trials]


@pytest.mark.parametrize("peak", [1, 5])
def test_it_finds_the_k_that_a_full_scan_finds(model, peak):
    score = score_best_at(peak)
    result = search(model, CONFIG, score, filters="first", max_clusters=7)
    smalls = {
        k: compress(model, replace(CONFIG, num_clusters=k), "first")[0]
        for k in range(1, 8)
    }
    assert result.best[0.6].trial.num_clusters == peak
    assert max(smalls, key=lambda k: score(smalls[k])) == peak
    assert 1 in by_k(result.trials)
    assert result.model.get_layer("first").num_clusters == peak


def test_it_keeps_what_compress_makes(model):
    result = search(model, CONFIG, score_best_at(3), filters="first")
    small, report = compress(model, replace(CONFIG, num_clusters=3), "first")
    assert np.array_equal(models.outputs_of(result.model), models.outputs_of(small))
    assert result.report == report
    trial = result.best[0.6].trial
    assert (trial.parameters, trial.bytes) == (
        report.parameters_after,
        report.bytes_after,
    )


def test_without_a_score_the_least_error_is_best(model):
    result = search(model, CONFIG, filters="first", max_clusters=4, max_trials=4)
    for k, trial in by_k(result.trials).items():
        _, report = compress(model, replace(CONFIG, num_clusters=k), "first")
        assert trial.score == pytest.approx(1 - report.replaced[0].relative_error)
    assert result.best[0.6].trial.score == max(x.score for x in result.trials)


@pytest.mark.slow
def test_mnist_gains_by_several_subspaces_where_much_is_removed(trained_lenet, mnist):
    x, y = mnist.x_train[:2000], mnist.y_train[:2000]
    result = search(
        trained_lenet,
        CONFIG,
        lambda small: accuracy(small, x, y),
        rates=[0.8, 0.95],
        filters=["fc1", "fc2"],
        max_trials=3,
    )
    at_95 = [trial for trial in result.trials if trial.rate == 0.95]
    assert result.best[0.95].trial.score > by_k(at_95)[1].score + 0.05
    assert result.best[0.8].trial.score > 0.97
    assert result.model is result.best[0.8].model


def test_a_clustering_is_the_start_at_the_next_rate(model, monkeypatch):
    starts = []
    fit = KSubspaces.fit

    def spied(self, *args, **options):
        if self.n_clusters == 2:
            starts.append(self.init)
        return fit(self, *args, **options)

    monkeypatch.setattr(KSubspaces, "fit", spied)
    search(model, CONFIG, rates=[0.5, 0.6], filters="first", max_clusters=2)
    assert starts[0] == "k-means"
    assert len(starts) == 2
    assert set(np.unique(starts[1])) == {0, 1}


def test_clusterings_are_shared_in_a_search_only(model):
    before = models.outputs_of(compress(model, CONFIG, "first")[0])
    search(model, CONFIG, rates=[0.7, 0.6], filters="first")
    after = models.outputs_of(compress(model, CONFIG, "first")[0])
    assert np.array_equal(before, after)


def clusters_of_first(small):
    return small.layers[0].num_clusters


@pytest.mark.parametrize(("rate", "most"), [(0.7, 7), (0.8, 4)])
def test_k_ends_before_a_layer_is_left_out(model, rate, most):
    config = replace(CONFIG, rate=rate)
    result = search(model, config, clusters_of_first, filters="first|second")

    def count(k):
        one = replace(config, num_clusters=k)
        return len(compress(model, one, "first|second")[1].replaced)

    assert max(by_k(result.trials)) == most
    assert (count(most), count(most + 1)) == (2, 1)


def test_k_goes_on_where_a_negligible_layer_is_left_out():
    wide, narrow = keras.layers.Dense(400), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((300,)), wide, narrow])
    config = replace(CONFIG, rate=0.49)
    result = search(model, config, clusters_of_first, max_clusters=6)
    assert len(compress(model, replace(config, num_clusters=1))[1].replaced) == 2
    assert [layer.num_clusters for layer in result.report.replaced] == [6]


def test_the_model_stays_as_it_is(model):
    before = models.snapshot(model)
    search(model, CONFIG, filters="first", max_trials=3)
    models.assert_unchanged(model, before)


def test_the_table_shows_each_trial_and_the_best(model):
    result = search(model, CONFIG, score_best_at(2), filters="first", max_clusters=3)
    lines = str(result).splitlines()
    assert len(lines) == 2 + len(result.trials)
    assert [line for line in lines if line.endswith("best")] == [lines[3]]


def test_a_progress_bar_counts_the_models(model, capfd):
    search(model, CONFIG, filters="first", max_clusters=3, verbose=True)
    captured = capfd.readouterr()
    assert "search: 100%" in captured.err
    assert captured.out == ""


# Scores that fail


def raising_at(bad, score):
    def raising(small):
        if small.get_layer("first").num_clusters in bad:
            raise RuntimeError("out of luck")
        return score(small)

    return raising


def test_a_score_that_raises_is_reported_and_the_search_goes_on(model):
    score = raising_at({3}, score_best_at(2))
    result = search(model, CONFIG, score, filters="first", max_clusters=7)
    failed = by_k(result.trials)[3]
    assert failed.error == "score: RuntimeError: out of luck"
    assert failed.score is None
    assert result.best[0.6].trial.num_clusters == 2
    assert "out of luck" in str(result)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "a word", None])
def test_a_score_that_is_no_finite_number_is_reported(model, bad):
    def score(small):
        return 1.0 if small.get_layer("first").num_clusters == 1 else bad

    result = search(model, CONFIG, score, filters="first", max_clusters=3)
    assert result.best[0.6].trial.num_clusters == 1
    assert all("score: " in x.error for x in result.trials if x.num_clusters > 1)


def test_a_rate_at_which_all_fails_is_left_out(model):
    result = search(model, CONFIG, rates=[0.6, 0.99], filters="first", max_clusters=2)
    assert list(result.best) == [0.6]
    failed = result.trials[-1]
    assert (failed.rate, failed.num_clusters) == (0.99, 1)
    assert "No layer can be compressed" in failed.error


def test_an_error_lists_all_trials_if_all_fail(model):
    with pytest.raises(ValueError, match=r"\(0.6, 1\): 'score: RuntimeError") as error:
        search(model, CONFIG, raising_at(range(99), None), filters="first")
    assert str(error.value).count("out of luck") > 1


# In a folder


def test_a_second_call_takes_all_from_the_folder(model, tmp_path):
    calls = []

    def score(small):
        calls.append(1)
        return score_best_at(3)(small)

    options = {"rates": [0.6, 0.7], "filters": "first", "folder": tmp_path / "found"}
    first = search(model, CONFIG, score, **options)
    done = len(calls)
    second = search(model, CONFIG, score, **options)
    assert len(calls) == done == len(second.trials)
    assert second.trials == first.trials
    for rate, candidate in second.best.items():
        kept = first.best[rate]
        assert candidate.report == kept.report
        again, then = candidate.model, kept.model
        assert np.array_equal(models.outputs_of(again), models.outputs_of(then))


def test_the_folder_holds_rows_and_the_best_models(model, tmp_path):
    options = {"filters": "first", "max_clusters": 4}
    result = search(model, CONFIG, score_best_at(3), folder=tmp_path, **options)
    assert sorted(os.listdir(tmp_path)) == [
        "clusterings.npz",
        "rate-0.6-k-3.json",
        "rate-0.6-k-3.keras",
        "search.json",
        "trials.jsonl",
    ]
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["score"] for row in rows] == [trial.score for trial in result.trials]


SCRIPT = """
import functools, os, signal, sys
from tests.keras_messi import test_searching

calls = []

@functools.wraps(test_searching.score_near_four)
def killing(small):
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return test_searching.score_near_four(small)

test_searching.search_two_rates(killing, sys.argv[1])
"""


def score_near_four(small):
    return -abs(small.get_layer("first").num_clusters - 4)


def search_two_rates(score, folder):
    keras.utils.set_random_seed(0)
    options = {"rates": [0.5, 0.6], "filters": "first", "max_clusters": 6}
    return search(models.sequential(), CONFIG, score, folder=folder, **options)


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_to_the_same_end(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, killed], cwd=ROOT, check=False, timeout=300
    )
    assert result.returncode == -signal.SIGKILL
    done = (killed / "trials.jsonl").read_text()
    assert len(done.splitlines()) == 4
    found = search_two_rates(score_near_four, killed)
    assert (killed / "trials.jsonl").read_text().startswith(done)
    expected = search_two_rates(score_near_four, whole)
    assert facts(found.trials) == facts(expected.trials)
    assert sorted(os.listdir(killed)) == sorted(os.listdir(whole))
    for rate, candidate in expected.best.items():
        outputs = models.outputs_of(found.best[rate].model)
        assert np.array_equal(outputs, models.outputs_of(candidate.model))


def test_what_a_kill_left_of_a_model_is_replaced(model, tmp_path):
    options = {"filters": "first", "max_clusters": 3, "folder": tmp_path}
    search(model, CONFIG, score_best_at(3), **options)
    rows = (tmp_path / "trials.jsonl").read_text().splitlines()
    (tmp_path / "trials.jsonl").write_text("\n".join(rows[:1]) + "\n")
    (tmp_path / "rate-0.6-k-1.keras").write_bytes(b"half")
    result = search(model, CONFIG, score_best_at(3), **options)
    assert result.best[0.6].trial.num_clusters == 3
    assert [x.name for x in tmp_path.glob("*.keras")] == ["rate-0.6-k-3.keras"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": [0.7]}, r"rates=\[0.6\] there and rates=\[0.7\] here"),
        ({"config": replace(CONFIG, seed=1)}, "seed=0.*there.*seed=1.*here"),
        ({"filters": "second"}, "model='.*' there and model='.*' here"),
        ({"score": None}, "score=None here"),
        ({"max_clusters": 5}, "max_clusters=4 there and max_clusters=5 here"),
    ],
)
def test_a_folder_of_another_search_is_refused(model, tmp_path, change, message):
    options = {
        "config": CONFIG,
        "score": score_best_at(2),
        "filters": "first",
        "max_clusters": 4,
        "folder": tmp_path,
    }
    search(model, **options)
    before = (tmp_path / "trials.jsonl").read_bytes()
    with pytest.raises(ValueError, match=f"another search.*{message}"):
        search(model, **{**options, **change})
    assert (tmp_path / "trials.jsonl").read_bytes() == before


def test_a_folder_with_something_else_is_refused(model, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="`folder` must be empty"):
        search(model, CONFIG, folder=tmp_path)
    assert os.listdir(tmp_path) == ["precious.txt"]


# With what else compress takes


def test_calibration_data_are_looked_at_once(model, monkeypatch):
    watched = []
    x = models.inputs_of(model, 64)
    call = type(model).__call__

    def spied(self, *args, **options):
        watched.append(self is model)
        return call(self, *args, **options)

    monkeypatch.setattr(type(model), "__call__", spied)
    options = {"calibration_data": x, "filters": "first", "max_clusters": 3}
    result = search(model, CONFIG, **options)
    assert sum(watched) == 1
    assert len(result.trials) > 1
    for candidate in result.best.values():
        error = candidate.report.replaced[0].output_error
        assert candidate.trial.score == pytest.approx(1 - error)


def test_one_budget_for_the_model_and_quantized_factors(model, tmp_path):
    config = MessiConfig(rate=0.6, scope="model", quantization="int8")
    options = {"filters": "first|second", "max_clusters": 2, "folder": tmp_path}
    first = search(model, config, **options)
    again = search(model, config, **options)
    assert not any(trial.error for trial in first.trials)
    assert again.report == first.report
    outputs = models.outputs_of(again.model)
    assert np.array_equal(outputs, models.outputs_of(first.model))


@pytest.mark.slow
@pytest.mark.skipif(
    bool(transformer_models.MISSING), reason=str(transformer_models.MISSING)
)
@transformer_models.FILTERS
def test_a_model_of_transformers_is_searched_and_kept_in_a_folder(tmp_path):
    model = transformer_models.build("BertModel", **transformer_models.LARGER)
    options = {"filters": "word", "max_clusters": 3, "folder": tmp_path}
    first = search(model, CONFIG, **options)
    again = search(model, CONFIG, **options)
    assert again.trials == first.trials
    outputs = transformer_models.outputs_of(again.model)
    assert np.array_equal(outputs, transformer_models.outputs_of(first.model))


# Bad arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": MessiConfig(rank=3)}, "`config` must have a rate"),
        ({"rates": []}, "`rates` must not be empty"),
        ({"rates": [0.5, 1.5]}, "Received: rate=1.5"),
        ({"max_clusters": 0}, "Received: max_clusters=0"),
        ({"max_trials": 2.5}, "Received: max_trials=2.5"),
        ({"filters": "nothing"}, "`filters` must match a layer"),
        ({"model": "no model"}, "model"),
    ],
)
def test_bad_arguments_are_refused(model, tmp_path, change, message):
    options = {"model": model, "config": CONFIG, "folder": tmp_path / "found"}
    with pytest.raises(ValueError, match=message):
        search(**{**options, **change})


def test_weights_that_are_not_finite_are_refused(model):
    model.get_layer("first").bias.assign(np.full(30, 0.0))
    kernel = np.full((40, 30), np.nan)
    model.get_layer("first").kernel.assign(kernel)
    with pytest.raises(ValueError, match="must be finite"):
        search(model, CONFIG)
