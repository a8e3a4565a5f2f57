"""Competitors against slow oracles; the benchmarks themselves on few rows."""

import itertools
import json

import numpy as np
import pytest
import run
from results import Results
from speed_plots import PICTURES

import competitors
from kprojclust import clustering_accuracy, make_subspaces
from measurements import growth, layers
from measurements.data import planted_bases, planted_block, save_planted
from measurements.processes import AnonymousPeak, in_fresh_process, status_mb

from . import reference

FITS = {
    "ours": competitors.ksubspaces.fit,
    "plain loop": competitors.plain_loop.fit,
    "messi": competitors.messi_reference.fit,
    "julia": competitors.subspace_clustering_jl.fit,
}


@pytest.fixture
def planted():
    return make_subspaces(
        120, 6, n_clusters=3, n_components=2, noise=0.01, random_state=0
    )


def cost(X, labels, j):
    """Sum of squared distances to the best subspace of each cluster."""
    return sum(
        np.sum(np.linalg.svd(X[labels == c], compute_uv=False)[j:] ** 2)
        for c in np.unique(labels)
    )


def best(fit, X):
    """The best of five seeds."""
    return min((fit(X, 3, 2, seed) for seed in range(5)), key=lambda run: run.objective)


def test_plain_loop_follows_the_oracle(planted):
    X, _, _ = planted
    start = np.random.default_rng(0).integers(3, size=len(X))
    found = competitors.plain_loop.fit_from(X, start, 3, 2)
    labels, _, loss_curve = reference.ksubspaces(
        X, np.ones(len(X)), start, [2] * 3, len(found.loss_curve)
    )
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.loss_curve, loss_curve, rtol=1e-9)


def test_distances_of_the_paper_and_of_the_plain_loop_are_the_oracles(planted):
    X, _, (basis, *_) = planted
    expected = [reference.squared_distance(x, basis) for x in X]
    in_null_space = competitors.messi_reference.distances(X, basis)
    np.testing.assert_allclose(in_null_space**2, expected, atol=1e-12)
    residuals = competitors.plain_loop.squared_residuals(X, basis)
    np.testing.assert_allclose(residuals, expected, atol=1e-12)


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_objective_is_that_of_the_labels_at_a_fixed_point(fit, planted):
    X, y, _ = planted
    found = min(
        (fit(X, 3, 2, seed) for seed in range(5)), key=lambda run: run.objective
    )
    assert clustering_accuracy(y, found.labels) > 0.9
    assert found.objective == found.loss_curve[-1]
    np.testing.assert_allclose(found.objective, cost(X, found.labels, 2), rtol=1e-6)


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_objective_in_float32_is_that_in_float64(fit, planted):
    X = planted[0].astype(np.float32)
    in_float64 = best(fit, X.astype(np.float64)).objective
    # One objective is a difference of energies, 5000 times as large as itself.
    np.testing.assert_allclose(best(fit, X).objective, in_float64, rtol=1e-2)


def test_objective_of_kmeans_is_that_of_its_labels(planted):
    X, _, _ = planted
    found = competitors.sklearn_kmeans.fit(X, 3, 2, 0)
    means = np.array([X[found.labels == c].mean(axis=0) for c in range(3)])
    np.testing.assert_allclose(found.objective, np.sum((X - means[found.labels]) ** 2))


def test_objective_of_truncated_svd_is_that_of_as_many_numbers(planted):
    X, _, _ = planted
    rank = competitors.truncated_svd.equal_rank(X.shape, 3, 2)
    assert rank * (120 + 6) <= 2 * (120 + 3 * 6) < (rank + 1) * (120 + 6)
    objective = competitors.truncated_svd.fit(X, 3, 2, 0).objective
    np.testing.assert_allclose(objective, cost(X, np.zeros(120), rank), rtol=1e-3)


def test_energy_is_the_sum_of_squares(planted):
    assert competitors.energy(planted[0]) == pytest.approx(np.sum(planted[0] ** 2))


def test_saved_blocks_lie_near_the_planted_subspaces(tmp_path):
    save_planted(tmp_path / "rows.npy", 300, 6, 3, 2)
    X, bases = np.load(tmp_path / "rows.npy"), planted_bases(6, 3, 2)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, planted_block(bases, 300, 0))
    nearest = reference.squared_distances(X, bases).min(axis=1)
    assert np.mean(nearest) < 1.2 * 4 * 0.1**2  # four directions of noise


def allocate(n):
    with AnonymousPeak(interval=0.001) as peak:
        before = status_mb("RssAnon")
        rows = np.ones(n)
        rows.sum()
    return peak.mb - before


def test_memory_of_a_fresh_process_is_seen():
    assert 70 < in_fresh_process(allocate, 10_000_000) < 120


def test_results_are_measured_once_under_the_same_code(tmp_path):
    path, calls = tmp_path / "speed.json", []

    def measure(n):
        calls.append(n)
        return {"seconds": n}

    assert Results(path, "now").record("a", measure, 1) == {"seconds": 1}
    assert Results(path, "now").record("a", measure, 2) == {"seconds": 1}
    assert Results(path, "later").record("a", measure, 3) == {"seconds": 3}
    assert calls == [1, 3]


@pytest.mark.slow
def test_tables_of_few_rows(tmp_path):
    names = ["small", "memory"]
    run.main([*names, "--scale", "0.0001", "--output", str(tmp_path)])
    page = (tmp_path / "speed.md").read_text(encoding="utf-8")
    for name in names:
        assert run.MEASUREMENTS[name].TITLE in page
    assert (
        "small, memory: Made by `python docs/benchmarks/run.py --scale 0.0001`" in page
    )
    assert set(json.loads((tmp_path / "speed.json").read_text())["tables"]) == set(
        names
    )


@pytest.mark.slow
def test_tables_and_picture_of_a_part_of_the_word_table(word_table, tmp_path):
    names = ["messi", "iteration", "limit"]
    run.main([*names, "--scale", "0.005", "--output", str(tmp_path)])
    page = (tmp_path / "speed.md").read_text(encoding="utf-8")
    assert page.count("until below the reference's objective") == 2
    picture = PICTURES["messi"].file
    assert f"({picture})" in page
    assert (tmp_path / picture).exists()


def test_exponent_and_picture_of_growth(tmp_path):
    assert growth.exponent({10: [2.0], 100: [20.0], 1000: [200.0]}) == pytest.approx(1)
    numbers = {f"growth/ours/{n}": {"ours": {"seconds": [n]}} for n in (10, 100)}
    PICTURES["growth"].draw(numbers, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").exists()


def record_now(key, measure, *arguments):
    return measure(*arguments)


@pytest.mark.slow
def test_layers_are_timed_both_ways():
    forward, backward = itertools.islice(layers.rows(record_now, 0.001), 2)
    assert forward.what.startswith("tensorflow: look-up of 2048 Zipf ids")
    assert forward.what.endswith(", forward")
    assert backward.what.endswith(", forward and backward")
    assert all(row.ratio.endswith("x as long") for row in (forward, backward))


def test_missing_library_is_said(monkeypatch):
    missing = layers.COMPARISONS[0]._replace(backend="no_such_library")
    monkeypatch.setattr(layers, "COMPARISONS", [missing])
    (row,) = layers.rows(record_now, 1)
    assert row.ours == "no_such_library is not installed"


def test_unknown_measurement_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["speed"])
    assert "NAME must be among" in capsys.readouterr().err
