"""Starts of every kind, exchanges between runs, progress."""

import numpy as np
import pytest
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kprojclust import KSubspaces, clustering_accuracy, make_subspaces
from kprojclust._engine.em import run_em
from kprojclust._geometry.distances import squared_distances
from kprojclust._starts.exchange import _best_swap, exchange_clusters
from kprojclust._starts.initialization import automatic_starts
from tests.kprojclust.problems import squared_problem


@pytest.fixture
def planted():
    return make_subspaces(noise=0.02, random_state=0)


def test_auto_takes_one_start_of_pairs_on_moderate_data_only():
    few, many = automatic_starts(300, 5, 4), automatic_starts(10**6, 5, 4)
    assert few == ["spectral", "k-means", "farthest", "farthest"]
    assert many == ["k-means", "farthest", "farthest", "farthest"]
    assert automatic_starts(300, 5, 1) == ["spectral"]
    assert automatic_starts(300, 101, 1) == ["k-means"]


@pytest.mark.parametrize("init", ["auto", "farthest", "spectral"])
def test_every_start_finds_unequal_planted_subspaces(init):
    X, y, _ = make_subspaces(400, 15, n_components=[1, 3, 5], random_state=1)
    model = KSubspaces(3, [5, 1, 3], init=init, random_state=0).fit(X)
    assert clustering_accuracy(y, model.labels_) > 0.99


def starts_made(X, start, **options):
    """Number of starts of a fit, all of them drawn by a given function."""
    calls = []

    def init(X, n_clusters, random_state):
        calls.append(len(X))
        return start(len(calls), random_state)

    KSubspaces(3, 2, init=init, random_state=0, **options).fit(X)
    return len(calls)


def test_auto_makes_no_more_starts_once_three_led_to_the_best_clusters(planted):
    X, y, _ = planted
    assert starts_made(X, lambda n, _: y) == 3
    assert starts_made(X, lambda n, _: (y + n) % 3) == 3  # by any names
    assert starts_made(X, lambda n, _: y, n_init=5) == 5
    assert starts_made(X, lambda n, _: y, max_parameters=1000) == 10


def test_auto_makes_all_starts_where_they_disagree():
    X = np.random.default_rng(0).standard_normal((300, 10))
    n_starts = starts_made(X, lambda n, random_state: random_state.randint(3, size=300))
    assert n_starts == 10


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_auto_makes_no_more_starts_in_a_race_either(loss):
    X, _, _ = make_subspaces(10_000, noise=0.02, random_state=0)

    def start(n, random_state):
        return random_state.randint(3, size=4096)

    assert starts_made(X, start, loss=loss) < 10


def test_bases_are_a_start(planted):
    X, y, components = planted
    model = KSubspaces(3, 2, init=components).fit(X)
    assert np.array_equal(model.labels_, y)


def test_bases_need_not_be_orthonormal_nor_of_the_final_dimension(planted):
    X, y, components = planted
    bases = [
        np.vstack([3 * basis, basis.sum(axis=0)])[:2] + 0.0 for basis in components
    ]
    assert np.array_equal(KSubspaces(3, 2, init=bases).fit(X).labels_, y)


@pytest.mark.parametrize(
    ("bases", "message"),
    [
        ([np.eye(2, 10)] * 2, "one basis per cluster, n_clusters=3. Got 2"),
        ([np.eye(2, 9)] * 3, r"n_features=10 columns. Got shape \(2, 9\)"),
        ([np.full((2, 10), np.nan)] * 3, "NaN"),
    ],
)
def test_bad_bases_are_named(planted, bases, message):
    with pytest.raises(ValueError, match=message):
        KSubspaces(3, 2, init=bases).fit(planted[0])


def test_an_exchange_puts_together_what_two_runs_found(planted):
    X, y, components = planted
    problem = squared_problem(X, np.full(3, 2))
    truth = run_em(problem, y, max_iter=10, tol=0).flats
    junk = run_em(problem, np.arange(300) % 3, max_iter=1, tol=0).flats
    first, second = [truth[0], truth[1], junk[2]], [junk[0], junk[1], truth[2]]
    flats = exchange_clusters(problem, first, second, 1e-9)
    assert np.array_equal(squared_distances(X, flats).argmin(axis=1), y)
    assert exchange_clusters(problem, truth, junk, 1e-9) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_best_swap_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    costs, dimensions = rng.uniform(size=(9, 30)), rng.integers(1, 3, size=9)
    chosen = rng.permutation(9)[:4]
    swaps = {}
    for slot, old in enumerate(chosen):
        for new in set(range(9)) - set(chosen):
            if dimensions[new] == dimensions[old]:
                kept = [*np.delete(chosen, slot), new]
                swaps[costs[kept].min(axis=0).sum()] = (slot, new)
    objective, *swap = _best_swap(costs, chosen, dimensions)
    assert objective == pytest.approx(min(swaps))
    assert tuple(swap) == swaps[min(swaps)]
    assert _best_swap(costs, chosen, np.isin(np.arange(9), chosen)) is None


def test_an_exchange_never_mixes_dimensions():
    X, y, _ = make_subspaces(n_components=[1, 2, 3], noise=0.01, random_state=0)
    dimensions = np.array([1, 2, 3])
    problem = squared_problem(X, dimensions)
    flats = run_em(problem, y, max_iter=10, tol=0).flats
    moved = [flats[1], flats[2], flats[0]]
    assert exchange_clusters(problem, flats, moved, 1e-9) is None


def test_verbose_prints_a_line_for_each_iteration(planted, capsys):
    model = KSubspaces(3, 2, init=planted[1], verbose=1).fit(planted[0])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == model.n_iter_
    assert lines[0].startswith("iteration 1: objective ")
    for part in ("rows moved", "clusters empty", " s"):
        assert part in lines[0]


def test_weights_are_routed_through_a_pipeline(planted):
    X = planted[0]
    weight = np.random.default_rng(0).uniform(0.1, 2, 300)
    start = np.arange(300) % 3
    with sklearn.config_context(enable_metadata_routing=True):
        model = KSubspaces(3, 2, init=start).set_fit_request(sample_weight=True)
        scaler = StandardScaler(with_std=False).set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, model)
        pipeline.fit(X, sample_weight=weight)
    plain = KSubspaces(3, 2, init=start).fit(X - X.mean(axis=0), sample_weight=weight)
    assert pipeline[-1].inertia_ == pytest.approx(plain.inertia_)


def test_the_html_view_names_the_parameters():
    assert "max_parameters" in KSubspaces(3, max_parameters=100)._repr_html_()
