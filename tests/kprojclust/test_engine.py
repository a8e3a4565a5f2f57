"""The fast engine against the plain loop, on enough rows for all of its short cuts."""

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose
from threadpoolctl import threadpool_limits

import kprojclust._engine.em
from competitors import plain_loop
from kprojclust import KSubspaces, clustering_accuracy, make_subspaces
from kprojclust._engine.assignment import _first_smallest, assignment_step
from kprojclust._engine.scatter import Scatter
from kprojclust._starts.restarts import draw_subsamples
from tests.kprojclust.problems import squared_problem

N = 10_000
# Few directions, half of them, fewer normals than components.
SHAPES = {"few": (64, 4, 6), "half": (40, 20, 4), "normals": (24, 18, 3)}
TOL = 1e-4


def gaussian(n, d, seed):
    """Rows without clusters, of decaying spectrum: many optima, reached slowly."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.5


def planted(n, d, j, k, seed):
    return make_subspaces(
        n, d, n_clusters=k, n_components=j, noise=0.1, random_state=seed
    )[0]


@cache
def gaussian_case(seed, d, j, k):
    """Rows, a start, the shape of the flats, and where the plain loop goes."""
    X, start = gaussian(N, d, seed), np.random.default_rng(seed).integers(k, size=N)
    return X, start, (j, k), plain(X, start, j, k)


def plain(X, start, j, k):
    with threadpool_limits(1):
        return plain_loop.fit_from(X, start, k, j)


def fit(X, start, j, k, **options):
    """From a given start, in the steps of the plain loop."""
    return KSubspaces(k, j, init=start, **options).fit(X)


def fit_quickly(X, start, j, k, **options):
    """From a start that might have been drawn, with all short cuts."""
    options = {"init": lambda *_: start, "n_init": 1, "random_state": 0, **options}
    return KSubspaces(k, j, **options).fit(X)


@pytest.fixture(scope="module", params=["planted", "gaussian"])
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES)
def case(request, kind):
    """Rows, a start, the shape of the flats, and where the plain loop goes."""
    d, j, k = request.param
    if kind == "gaussian":
        return gaussian_case(0, d, j, k)
    X = planted(N, d, j, k, 0)
    start = np.random.default_rng(0).integers(k, size=N)
    return X, start, (j, k), plain(X, start, j, k)


@pytest.fixture(scope="module", params=[np.float32, np.float64])
def ours(request, case):
    X, start, shape, _ = case
    return fit_quickly(X.astype(request.param), start, *shape)


def test_a_given_start_takes_the_steps_of_the_plain_loop(case):
    X, start, shape, found = case
    model = fit(X, start, *shape)
    assert_allclose(model.loss_curve_, found.loss_curve, rtol=1e-9)
    assert np.array_equal(model.labels_, found.labels)


def test_a_given_start_ends_no_higher_than_the_plain_loop_in_float32(case):
    X, start, shape, found = case
    model = fit(X.astype(np.float32), start, *shape)
    assert model.inertia_ <= 1.001 * found.objective


def test_short_cuts_end_no_higher_on_planted_rows(kind, case, ours):
    if kind == "planted":
        assert ours.inertia_ <= 1.001 * case[-1].objective


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_short_cuts_end_no_higher_on_average_on_rows_without_clusters(shape):
    ratios = []
    for seed in range(3):
        X, start, flats, found = gaussian_case(seed, *shape)
        ours = fit_quickly(X.astype(np.float32), start, *flats).inertia_
        ratios.append(ours / found.objective)
    assert np.mean(ratios) < 1.001


def test_the_plain_loop_stays_where_the_engine_ends(case, ours):
    X, _, shape, _ = case
    further = plain(X, ours.labels_, *shape)
    assert further.objective >= (1 - 10 * TOL) * ours.inertia_


def test_the_engine_stays_where_the_plain_loop_ends(kind, case):
    X, _, shape, found = case
    further = fit_quickly(X, found.labels, *shape)
    assert further.inertia_ <= found.objective * (1 + 1e-12)
    if kind == "planted":  # where the plain loop ends at a fixed point, no label moves
        assert np.array_equal(further.labels_, found.labels)


def test_the_loss_curve_of_many_rows_never_rises(ours):
    rtol = 1e-5 if ours.means_.dtype == np.float32 else 1e-12
    rises = np.diff(ours.loss_curve_) / ours.loss_curve_[:-1]
    assert rises.max(initial=0) <= rtol


def test_the_end_is_exact(case, ours):
    X, _, (j, k), _ = case
    labels = ours.labels_
    assert ours.converged_
    assert np.array_equal(labels, ours.predict(X.astype(ours.means_.dtype)))
    with threadpool_limits(1):
        left = [np.linalg.svd(X[labels == c], compute_uv=False)[j:] for c in range(k)]
    # A refit of the final clusters gains less than an iteration may.
    assert ours.inertia_ == pytest.approx(sum(np.sum(s**2) for s in left), rel=TOL)


@pytest.mark.parametrize("loss", ["squared", "l1", "huber"])
@pytest.mark.parametrize("affine", [False, True])
def test_no_loss_rises_on_many_weighted_rows(loss, affine):
    rng = np.random.default_rng(0)
    X, start = planted(N, 24, 3, 4, 1) + 1, rng.integers(4, size=N)
    weight = rng.uniform(0, 2, N)
    model = KSubspaces(4, 3, loss=loss, affine=affine, init=start, random_state=0)
    curve = model.fit(X, sample_weight=weight).loss_curve_
    assert np.max(np.diff(curve) / curve[:-1]) <= 1e-10
    residuals = model.transform(X).min(axis=1)
    assert_allclose(curve[-1], weight @ model.loss_.rho(residuals), rtol=1e-8)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("noise", [0, 1e-3])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_nearly_nothing_left_over_settles_in_float32(affine, noise, shape):
    d, j, k = shape
    X, y, _ = make_subspaces(
        N, d, n_clusters=k, n_components=j, noise=noise, random_state=0
    )
    rng = np.random.default_rng(0)
    if affine:
        X = X + rng.normal(0, 30, (k, d))[y]
    start = np.where(rng.random(N) < 0.3, rng.integers(k, size=N), y)
    model = fit_quickly(X.astype(np.float32), start, j, k, affine=affine)
    assert np.array_equal(model.labels_, y)
    assert model.n_iter_ < 30
    assert min(model.loss_curve_) >= 0


def test_the_first_of_equal_costs_wins_in_every_column():
    costs = np.random.default_rng(0).integers(4, size=(7, 500)).astype(np.float32)
    labels, least = _first_smallest(costs)
    assert np.array_equal(labels, costs.argmin(axis=0))
    assert np.array_equal(least, costs.min(axis=0))


def gap_limits_of(monkeypatch):
    """The max_gap of every pass to come."""
    limits = []

    def spy(X, state, flats, criterion, collect, origin, max_gap=None):
        limits.append(max_gap)
        return assignment_step(X, state, flats, criterion, collect, origin, max_gap)

    monkeypatch.setattr(kprojclust._engine.em, "assignment_step", spy)
    return limits


def test_many_rows_are_followed_in_part_and_all_at_the_end(monkeypatch):
    limits = gap_limits_of(monkeypatch)
    fit_quickly(gaussian(N, 24, 0), np.arange(N) % 3, 18, 3)
    assert np.isfinite(limits).sum() > 5
    assert limits[0] == limits[-1] == np.inf


def test_few_rows_are_never_followed_in_part(monkeypatch):
    limits = gap_limits_of(monkeypatch)
    fit_quickly(gaussian(8192, 24, 0), np.arange(8192) % 3, 18, 3)
    assert set(limits) == {None}


@pytest.mark.parametrize(("n_components", "expected"), [(8, True), (9, False)])
def test_few_directions_are_found_roughly_until_the_end(
    monkeypatch, n_components, expected
):
    calls, improved = [], Scatter.improved

    def spy(scatter, flats):
        calls.append(len(flats))
        return improved(scatter, flats)

    monkeypatch.setattr(Scatter, "improved", spy)
    fit_quickly(gaussian(500, 64, 0), np.arange(500) % 3, n_components, 3)
    assert bool(calls) == expected


# Races


LOSSES = ["squared", "l1", "huber"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_components", [3, [1, 3, 5]], ids=str)
def test_a_race_finds_what_a_start_at_the_truth_finds(loss, n_components):
    X, y, _ = make_subspaces(
        N, 20, n_components=n_components, noise=0.05, random_state=0
    )
    truth = KSubspaces(3, n_components, loss=loss, init=y, random_state=0).fit(X)
    model = KSubspaces(3, n_components, loss=loss, random_state=0).fit(X)
    accuracies = [clustering_accuracy(y, m.labels_) for m in (model, truth)]
    assert accuracies[0] > accuracies[1] - 0.002
    # Each estimates the scale of its loss from a sample of its own.
    rtol = 0.05 if loss == "huber" else 1e-3
    assert_allclose(model.inertia_, truth.inertia_, rtol=rtol)


def test_a_race_shows_a_callable_start_a_sample_once_for_each_start():
    X, calls = gaussian(N, 10, 0), []

    def init(X, n_clusters, random_state):
        calls.append(X.shape)
        return random_state.randint(n_clusters, size=len(X))

    KSubspaces(3, 2, init=init, n_init=4, random_state=0, tol=1e-2).fit(X)
    assert calls == [(4096, 10)] * 4


@pytest.mark.parametrize("loss", LOSSES)
def test_a_seed_repeats_a_race(loss):
    X = gaussian(N, 10, 0)
    options = {"loss": loss, "n_init": 3, "random_state": 3, "tol": 1e-3}
    first, second = (KSubspaces(3, 2, **options).fit(X) for _ in range(2))
    assert first.loss_curve_ == second.loss_curve_
    assert np.array_equal(first.labels_, second.labels_)


def test_a_given_start_repeats_without_a_seed():
    X, start = gaussian(N, 10, 0), np.arange(N) % 3
    first, second = (fit(X, start, 2, 3) for _ in range(2))
    assert first.loss_curve_ == second.loss_curve_


@pytest.mark.parametrize("given", [False, True])
def test_relocations_of_many_rows_never_end_higher(given):
    X, y, _ = make_subspaces(
        N, 12, n_clusters=6, n_components=2, noise=0.05, random_state=0
    )
    # Two true clusters together, another one in two.
    start = np.where(y == 5, 4, np.where((y == 0) & (X[:, 0] > 0), 5, y))
    options = {"init": start} if given else {"init": "random", "n_init": 1}
    stuck, moved = (
        KSubspaces(6, 2, n_relocations=n, random_state=0, **options).fit(X)
        for n in (0, 6)
    )
    assert moved.inertia_ <= stuck.inertia_ * (1 + 1e-12)
    assert np.all(np.diff(moved.loss_curve_) <= 1e-10 * moved.loss_curve_[0])
    if given:
        assert clustering_accuracy(y, moved.labels_) > 0.98
        assert clustering_accuracy(y, stuck.labels_) < 0.9


def test_a_race_leaves_weights_of_zero_out_of_its_sample():
    X, y, _ = make_subspaces(N, 10, noise=0.02, random_state=0)
    weight = np.where(np.arange(N) < 3000, 1.0, 0.0)
    problem = squared_problem(X, np.full(3, 2), weight)
    subsamples = draw_subsamples(problem, 10, np.random.RandomState(0))
    assert len(subsamples.pool.rows) == 3000
    model = KSubspaces(3, 2, random_state=0).fit(X, sample_weight=weight)
    assert clustering_accuracy(y, model.labels_) > 0.99
