import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kprojclust import (
    KSubspaces,
    clustering_accuracy,
    make_subspaces,
    principal_angles,
)
from kprojclust._engine.em import run_em
from kprojclust._starts.initialization import STARTS
from tests import reference
from tests.kprojclust.problems import assert_same_subspaces, squared_problem


@pytest.fixture
def planted():
    """300 points on three planes in ten dimensions, with a little noise."""
    return make_subspaces(noise=0.02, random_state=0)


@pytest.fixture
def fitted(planted):
    return KSubspaces(3, 2, random_state=0).fit(planted[0])


def test_planted_subspaces_are_found(planted, fitted):
    X, y, components = planted
    assert clustering_accuracy(y, fitted.labels_) == 1
    assert_same_subspaces(components, fitted.components_, 0.01)


@pytest.mark.parametrize("n_components", [1, 2])
def test_a_run_takes_the_steps_of_the_plain_loop(n_components):
    X, _, _ = make_subspaces(n_samples=60, n_features=6, noise=0.3, random_state=0)
    rng = np.random.default_rng(0)
    start, weight = np.arange(60) % 3, rng.uniform(0.5, 2, 60)
    dimensions = np.broadcast_to(n_components, 3)
    labels, components, loss_curve = reference.ksubspaces(
        X, weight, start, dimensions, n_iter=6
    )
    problem = squared_problem(X, dimensions, weight)
    run = run_em(problem, start, max_iter=6, tol=0)
    assert np.array_equal(run.state.labels, labels)
    n_iter = len(run.loss_curve)
    assert_allclose(run.loss_curve, loss_curve[:n_iter], rtol=1e-10)
    for fast, slow in zip(run.flats, components, strict=True):
        assert principal_angles(fast.components, slow)[0] < 1e-6


def test_one_cluster_is_the_truncated_svd(planted):
    X = planted[0]
    model = KSubspaces(1, 4).fit(X)
    svd = TruncatedSVD(4, algorithm="arpack").fit(X)
    assert principal_angles(model.components_[0], svd.components_)[0] < 1e-6
    residual = X - svd.inverse_transform(svd.transform(X))
    assert model.inertia_ == pytest.approx(np.sum(residual**2))


def test_attributes_agree_with_one_another(planted, fitted):
    X = planted[0]
    distances = fitted.transform(X)
    assert np.array_equal(fitted.labels_, fitted.predict(X))
    assert np.array_equal(fitted.labels_, distances.argmin(axis=1))
    assert fitted.inertia_ == pytest.approx(np.sum(distances.min(axis=1) ** 2))
    assert fitted.inertia_ == fitted.loss_curve_[-1]
    assert fitted.n_iter_ == len(fitted.loss_curve_)
    assert fitted.n_components_.tolist() == [2, 2, 2]
    assert fitted.converged_
    assert fitted.n_parameters_ == 2 * (300 + 3 * 10)


def test_transform_gives_the_distances_of_the_loops(planted, fitted):
    X = planted[0][:20]
    slow = np.sqrt(reference.squared_distances(X, fitted.components_))
    assert_allclose(fitted.transform(X), slow, atol=1e-10)


def test_decode_inverts_encode_on_the_subspaces():
    X, _, _ = make_subspaces(n_components=[1, 2, 3], random_state=1)
    model = KSubspaces(3, [1, 2, 3], random_state=0).fit(X)
    labels, coordinates = model.encode(X)
    assert coordinates.shape == (300, 3)
    projected = model.project(X)
    assert_allclose(model.decode(labels, coordinates), projected)
    again = model.encode(projected)
    assert_allclose(model.decode(*again), projected, atol=1e-12)
    residuals = np.linalg.norm(X - projected, axis=1)
    assert_allclose(residuals, model.transform(X).min(axis=1), atol=1e-10)


def test_unequal_dimensions_are_kept_in_order():
    X, _, _ = make_subspaces(n_components=[1, 2, 3], random_state=0)
    model = KSubspaces(3, np.array([3, 1, 2]), random_state=0).fit(X)
    assert [len(basis) for basis in model.components_] == [3, 1, 2]


def test_paper_figure_4_three_lines_against_a_plane():
    X, _, _ = make_subspaces(120, 3, n_clusters=3, n_components=1, random_state=0)
    plane = KSubspaces(1, 2).fit(X)
    lines = KSubspaces(3, 1, random_state=0).fit(X)
    assert (plane.n_parameters_, lines.n_parameters_) == (246, 129)
    assert lines.inertia_ < 1e-20 < plane.inertia_


# Starts


@pytest.mark.parametrize("init", ["auto", *sorted(STARTS)])
def test_a_seed_repeats_the_fit(planted, init):
    first, second = (
        KSubspaces(3, 2, init=init, random_state=5).fit(planted[0]) for _ in range(2)
    )
    assert np.array_equal(first.labels_, second.labels_)
    assert first.inertia_ == second.inertia_


def test_given_labels_are_the_start(planted):
    X, y, _ = planted
    model = KSubspaces(3, 2, init=y, max_iter=100).fit(X)
    assert np.array_equal(model.labels_, y)
    assert model.n_iter_ <= 2


def test_a_callable_start_gets_rows_clusters_and_randomness(planted):
    X, y, _ = planted
    calls = []

    def init(X, n_clusters, random_state):
        calls.append((X.shape, n_clusters))
        return random_state.permutation(y)

    KSubspaces(3, 2, init=init, n_init=4, random_state=0).fit(X)
    assert calls == [((300, 10), 3)] * 4


def test_more_starts_never_end_higher(planted):
    X = planted[0]
    losses = [
        KSubspaces(3, 1, init="random", n_init=n, random_state=0).fit(X).inertia_
        for n in (1, 5, 20)
    ]
    assert losses == sorted(losses, reverse=True)


# Weights


def test_whole_weights_are_repetitions(planted):
    X, y, _ = planted
    weight = np.random.default_rng(0).integers(1, 4, len(X))
    start = np.arange(len(X)) % 3
    weighted = KSubspaces(3, 2, init=start).fit(X, sample_weight=weight)
    repeated = KSubspaces(3, 2, init=np.repeat(start, weight)).fit(
        np.repeat(X, weight, axis=0)
    )
    assert np.array_equal(np.repeat(weighted.labels_, weight), repeated.labels_)
    assert weighted.inertia_ == pytest.approx(repeated.inertia_)


def test_rows_of_weight_zero_have_no_say(planted):
    X = planted[0]
    weight = np.ones(len(X))
    weight[200:] = 0
    start = np.arange(len(X)) % 3
    weighted = KSubspaces(3, 2, init=start).fit(X, sample_weight=weight)
    without = KSubspaces(3, 2, init=start[:200]).fit(X[:200])
    assert np.array_equal(weighted.labels_[:200], without.labels_)


def test_scaling_all_weights_changes_nothing_but_the_objective(planted):
    X = planted[0]
    plain = KSubspaces(3, 2, random_state=0).fit(X)
    scaled = KSubspaces(3, 2, random_state=0).fit(X, sample_weight=np.full(300, 4.0))
    assert np.array_equal(plain.labels_, scaled.labels_)
    assert scaled.inertia_ == pytest.approx(4 * plain.inertia_)


# Degenerate rows


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((20, 5)),
        np.ones((20, 5)),
        np.repeat(np.eye(2, 5), 10, axis=0),
        np.vstack([np.eye(5), np.zeros((15, 5))]),
    ],
    ids=["zero", "constant", "duplicates", "mostly-zero"],
)
@pytest.mark.parametrize("init", ["auto", *sorted(STARTS)])
def test_fewer_distinct_rows_than_clusters_are_legal(X, init):
    model = KSubspaces(6, 1, init=init, random_state=0)
    with pytest.warns(ConvergenceWarning, match="of n_clusters=6 subspaces have rows"):
        model.fit(X)
    assert np.array_equal(model.labels_, model.predict(X))
    assert model.inertia_ == pytest.approx(0, abs=1e-20)
    assert_allclose(model.project(X), X, atol=1e-10)


def test_as_many_clusters_as_rows():
    X = np.random.default_rng(0).standard_normal((6, 4))
    model = KSubspaces(6, 1, random_state=0).fit(X)
    assert model.inertia_ == pytest.approx(0, abs=1e-20)
    assert len(set(model.labels_)) == 6


def test_empty_clusters_of_the_start_are_filled(planted):
    X, y, _ = planted
    model = KSubspaces(3, 2, init=np.zeros(len(X), dtype=int)).fit(X)
    assert set(model.labels_) == {0, 1, 2}
    assert np.array_equal(model.labels_, model.predict(X))


# scikit-learn's world


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_of_the_rows_is_kept(planted, dtype):
    X = planted[0].astype(dtype)
    model = KSubspaces(3, 2, random_state=0).fit(X)
    assert {basis.dtype for basis in model.components_} == {np.dtype(dtype)}
    assert model.transform(X).dtype == model.project(X).dtype == dtype
    assert np.array_equal(model.labels_, model.predict(X))


def test_float32_finds_what_float64_finds(planted):
    X = planted[0]
    single, double = (
        KSubspaces(3, 2, random_state=0).fit(X.astype(dtype))
        for dtype in (np.float32, np.float64)
    )
    assert np.array_equal(single.labels_, double.labels_)
    assert single.inertia_ == pytest.approx(double.inertia_, rel=1e-4)


def test_clone_pickle_pipeline_and_pandas_output(planted, fitted):
    X = planted[0]
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict(X), fitted.labels_)
    pipeline = make_pipeline(StandardScaler(with_mean=False), clone(fitted))
    frame = pipeline.set_output(transform="pandas").fit_transform(X)
    assert list(frame.columns) == [f"ksubspaces{c}" for c in range(3)]


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clusters": 0}, "'n_clusters' parameter of KSubspaces must be an int"),
        ({"n_components": -1}, "'n_components' parameter of KSubspaces must be"),
        ({"n_components": 11}, "between 0 and n_features = 10. Got 11"),
        ({"n_components": [2, 2]}, "one entry per cluster, n_clusters=3. Got 2"),
        ({"n_components": [2, -1, 2]}, "between 0 and n_features = 10"),
        ({"n_components": [2.5, 1, 1]}, "must be an int or a sequence of ints"),
        ({"init": "kmeans"}, "'init' parameter of KSubspaces must be a str among"),
        ({"init": np.zeros(299, dtype=int)}, r"init must hold .* Got shape \(299,\)"),
        ({"init": np.full(300, 3)}, "labels from 0 to n_clusters - 1 = 2. Got .* 3"),
        ({"init": np.full(300, 0.5)}, "init must hold whole numbers"),
        ({"n_init": 0}, "'n_init' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"tol": -1}, "'tol' parameter"),
    ],
)
def test_bad_parameters_are_named(planted, arguments, message):
    model = KSubspaces(**{"n_clusters": 3, "n_components": 2, **arguments})
    with pytest.raises(ValueError, match=message):
        model.fit(planted[0])


def test_more_clusters_than_rows_is_an_error():
    with pytest.raises(ValueError, match="n_samples=2 must not be below n_clusters=3"):
        KSubspaces(3).fit(np.eye(2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_must_be_finite(planted, value):
    X = planted[0].copy()
    X[7, 3] = value
    with pytest.raises(ValueError, match="Input X contains"):
        KSubspaces(3, 2).fit(X)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.full(300, -1.0), "must not be negative. Got -1.0"),
        (np.zeros(300), "have a positive entry|at least one non-zero"),
        (np.ones(299), "sample_weight.shape"),
        (np.full(300, np.nan), "NaN"),
    ],
)
def test_bad_weights_are_refused(planted, weight, message):
    with pytest.raises(ValueError, match=message):
        KSubspaces(3, 2).fit(planted[0], sample_weight=weight)


def test_sparse_rows_are_refused(planted):
    with pytest.raises(TypeError, match="[Ss]parse"):
        KSubspaces(3, 2).fit(csr_array(planted[0]))


def test_decode_refuses_other_shapes_and_labels(fitted):
    with pytest.raises(ValueError, match=r"coordinates must have shape \(n_samples, 2"):
        fitted.decode([0], [[1.0]])
    with pytest.raises(ValueError, match="labels must hold labels from 0 to"):
        fitted.decode([3], [[1.0, 1.0]])
    with pytest.raises(NotFittedError):
        KSubspaces().decode([0], [[1.0]])


def test_no_convergence_is_a_warning(planted):
    model = KSubspaces(3, 2, max_iter=1, init="random", random_state=0)
    with pytest.warns(ConvergenceWarning, match="within max_iter=1 iterations"):
        model.fit(planted[0])
    assert not model.converged_


# Real rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_word_vectors_cluster_better_than_one_subspace(data_folder, dtype):
    with np.load(data_folder / "embeddings" / "glove6B_5050x50.npz") as file:
        X = file["vectors"].astype(dtype)
    # Equal storage: 5050 j + 50 k j numbers.
    several = KSubspaces(10, 10, n_init=1, random_state=0).fit(X)
    one = KSubspaces(1, 11).fit(X)
    assert several.n_parameters_ <= one.n_parameters_
    assert several.inertia_ < one.inertia_
    assert np.array_equal(several.labels_, several.predict(X))
    assert np.all(np.diff(several.loss_curve_) <= 1e-6 * several.inertia_)
