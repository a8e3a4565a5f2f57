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

import keras_messi
from keras_messi import MessiConfig, compress, search
from keras_messi.demo import accuracy
from tests.keras_messi import models

ROOT = Path(__file__).parent.parent.parent
CONFIG = MessiConfig(rate=0.6)


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


@pytest.mark.parametrize("peak", [1, 2, 5, 7])
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


def test_mnist_gains_by_several_subspaces_where_much_is_removed(trained_lenet, mnist):
    x, y = mnist.x_train[:2000], mnist.y_train[:2000]
    result = search(
        trained_lenet,
        MessiConfig(rate=0.5),
        lambda small: accuracy(small, x, y),
        rates=[0.8, 0.95],
        filters=["fc1", "fc2"],
        max_trials=5,
    )
    at_95 = [trial for trial in result.trials if trial.rate == 0.95]
    assert result.best[0.95].trial.score > by_k(at_95)[1].score + 0.05
    assert result.best[0.8].trial.score > 0.97
    assert result.model is result.best[0.8].model


def test_a_clustering_is_the_start_at_the_next_rate(trained_lenet, monkeypatch):
    starts = []
    plain = keras_messi.compressors.KSubspaces

    def spied(*args, **options):
        if "init" in options:  # not the last fit of each cluster
            starts.append(options["init"])
        return plain(*args, **options)

    monkeypatch.setattr("keras_messi.compressors.KSubspaces", spied)
    search(
        trained_lenet,
        CONFIG,
        rates=[0.8, 0.9],
        filters="fc1",
        max_clusters=2,
    )
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


@pytest.mark.parametrize(("rate", "most"), [(0.6, 10), (0.7, 7), (0.8, 4)])
def test_k_ends_before_a_layer_is_left_out(model, rate, most):
    config = MessiConfig(rate=rate)
    result = search(model, config, clusters_of_first, filters="first|second")

    def count(k):
        one = replace(config, num_clusters=k)
        return len(compress(model, one, "first|second")[1].replaced)

    assert max(by_k(result.trials)) == most
    assert (count(most), count(most + 1)) == (2, 1)


def test_k_goes_on_where_a_negligible_layer_is_left_out():
    wide, narrow = keras.layers.Dense(400), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((300,)), wide, narrow])
    config = MessiConfig(rate=0.49)
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
import os, signal, sys
import keras, numpy as np
from keras_messi import MessiConfig, search
from tests.keras_messi import models

keras.utils.set_random_seed(0)
model = models.sequential()
calls = 0

def score(small):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return -abs(small.get_layer("first").num_clusters - 4)

search(model, MessiConfig(rate=0.5), score, rates=[0.5, 0.6], filters="first",
       max_clusters=6, folder=sys.argv[1])
print("scored", calls)
"""


def run_script(folder, killed_at):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, str(killed_at)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_search_that_was_killed_goes_on_to_the_same_end(tmp_path):
    whole = run_script(tmp_path / "whole", killed_at=0)
    assert whole.returncode == 0, whole.stderr
    killed = run_script(tmp_path / "killed", killed_at=7)
    assert killed.returncode == -signal.SIGKILL
    rows = (tmp_path / "killed" / "trials.jsonl").read_text().splitlines()
    assert len(rows) == 6
    again = run_script(tmp_path / "killed", killed_at=0)
    assert again.returncode == 0, again.stderr

    def contents(name):
        lines = (tmp_path / name / "trials.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": 0} for line in lines]

    assert contents("killed") == contents("whole")
    assert f"scored {len(contents('whole')) - 6}" in again.stdout
    for file in (tmp_path / "whole").glob("rate-*"):
        assert (tmp_path / "killed" / file.name).exists()


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
        ({"config": MessiConfig(rate=0.6, seed=1)}, "seed=0.*there.*seed=1.*here"),
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
