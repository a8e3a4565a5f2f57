import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning

from kprojclust import PartitioningGuidedKMeans
from kprojclust._kmeans.atoms import consolidate, snap
from tests import reference

POLICIES = ["partition", "farthest", "perturb"]


@pytest.fixture
def rows():
    """Heavy tails, as weights of networks have them."""
    return np.random.default_rng(0).standard_t(3, (600, 4)).astype(np.float32)


def test_separated_blobs_are_found():
    X, y = make_blobs(200, 3, centers=6, cluster_std=0.1, random_state=1)
    model = PartitioningGuidedKMeans(6).fit(X)
    assert len({*zip(y, model.labels_, strict=True)}) == 6
    assert model.converged_


@pytest.mark.parametrize("policy", ["farthest", "perturb"])
def test_without_empty_clusters_it_is_lloyds_loop(policy):
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((60, 2)), rng.uniform(0.5, 2, 60)
    start = X[:4]
    model = PartitioningGuidedKMeans(
        4, init=start, empty_clusters=policy, max_iter=5, tol=0
    )
    with pytest.warns(ConvergenceWarning, match="max_iter=5"):
        model.fit(X, sample_weight=weights)
    labels, centers, objectives = reference.kmeans(X, weights, start, 5)
    assert_array_equal(model.labels_, labels)
    assert_allclose(model.cluster_centers_, centers, rtol=1e-9)
    assert_allclose([row.objective for row in model.history_], objectives, rtol=1e-9)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("init", ["partition", "k-means++", "random"])
def test_labels_are_predictions_and_sums_are_right(rows, init, policy):
    model = PartitioningGuidedKMeans(
        50, init=init, empty_clusters=policy, random_state=0
    ).fit(rows)
    assert_array_equal(model.labels_, model.predict(rows))
    assert_array_equal(model.labels_, model.transform(rows).argmin(axis=1))
    squared = np.sum((rows - model.cluster_centers_[model.labels_]) ** 2, axis=1)
    assert_allclose(model.inertia_, squared.sum(), rtol=1e-5)
    assert_allclose(model.score(rows), -model.inertia_, rtol=1e-6)
    assert model.n_effective_clusters_ == 50
    assert model.history_[-1].n_empty_after == 0
    assert model.cluster_centers_.dtype == np.float32


def test_objective_falls_below_that_of_k_means_plus_plus(rows):
    ours = PartitioningGuidedKMeans(100).fit(rows)
    theirs = [KMeans(100, n_init=1, random_state=seed).fit(rows) for seed in range(5)]
    assert ours.inertia_ < min(model.inertia_ for model in theirs)


def test_many_rows_are_clustered_by_way_of_a_sample():
    X = np.random.default_rng(0).standard_t(3, (4000, 3))
    weights = np.where(np.arange(4000) < 1500, 0.0, 1.0)
    model = PartitioningGuidedKMeans(10, random_state=0).fit(X, sample_weight=weights)
    objectives = [row.objective for row in model.history_]
    assert objectives[0] < objectives[-1]  # of 1280 rows, of all
    start = model.cluster_centers_
    again = PartitioningGuidedKMeans(10, init=start).fit(X, sample_weight=weights)
    assert_allclose(again.inertia_, model.inertia_, rtol=1e-2)
    assert_array_equal(model.labels_, model.predict(X))


def test_random_start_of_copies_is_put_right():
    X = np.repeat(np.random.default_rng(0).standard_normal((90, 2)), 10, axis=0)
    model = PartitioningGuidedKMeans(60, init="random", random_state=0).fit(X)
    assert model.history_[0].n_empty_before > 5
    assert model.history_[0].n_empty_after == 0
    assert model.n_effective_clusters_ == 60


def test_perturbation_takes_an_e_step_for_each_empty_cluster():
    X = np.repeat(np.random.default_rng(0).standard_normal((90, 2)), 10, axis=0)
    model = PartitioningGuidedKMeans(
        60, init="random", empty_clusters="perturb", random_state=0, max_tentatives=5
    )
    with pytest.warns(ConvergenceWarning, match="max_tentatives=5"):
        model.fit(X)
    first = model.history_[0]
    assert (first.n_e_steps, first.n_empty_after > 0) == (5, True)
    assert model.n_effective_clusters_ < 60
    assert_array_equal(model.labels_, model.predict(X))


def test_farthest_never_drains_a_cluster_of_one_row():
    X = np.array([[0.0], [0.1], [10.0], [20.0]])
    start = np.array([[0.0], [9.0], [19.0], [50.0]])
    model = PartitioningGuidedKMeans(4, init=start, empty_clusters="farthest").fit(X)
    assert sorted(model.labels_) == [0, 1, 2, 3]
    assert model.inertia_ == 0


@pytest.mark.parametrize("policy", ["partition", "farthest"])
def test_fewer_distinct_rows_than_clusters_are_said(policy):
    X = np.repeat([[0.0, 1.0], [2.0, 3.0]], 5, axis=0)
    model = PartitioningGuidedKMeans(4, empty_clusters=policy)
    with pytest.warns(ConvergenceWarning, match="Only 2 of n_clusters=4"):
        model.fit(X)
    assert model.n_effective_clusters_ == 2
    assert model.cluster_centers_.shape == (4, 2)
    assert_array_equal(model.labels_, model.predict(X))


def test_weights_are_as_copies(rows):
    counts = np.random.default_rng(1).integers(0, 4, len(rows))
    weighted = PartitioningGuidedKMeans(20).fit(rows, sample_weight=counts)
    copied = PartitioningGuidedKMeans(20).fit(np.repeat(rows, counts, axis=0))
    assert_allclose(weighted.inertia_, copied.inertia_, rtol=1e-5)


def test_the_same_seed_gives_the_same_centres(rows):
    options = {"init": "random", "empty_clusters": "perturb", "random_state": 3}
    one, other = (PartitioningGuidedKMeans(20, **options).fit(rows) for _ in range(2))
    assert_array_equal(one.cluster_centers_, other.cluster_centers_)


def test_rows_within_dense_eps_share_a_centre():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.uniform(-1, 1, (40, 3)), 5, axis=0)
    X += rng.uniform(-0.001, 0.001, X.shape)
    model = PartitioningGuidedKMeans(30, dense_eps=0.05).fit(X)
    atoms = consolidate(X, np.ones(len(X)), 0.05)
    for atom in range(len(atoms.X)):
        assert len(set(model.labels_[atoms.members == atom])) == 1
    assert_array_equal(model.labels_, model.predict(X))


def test_equal_rows_consolidated_change_nothing(rows):
    X = np.repeat(rows, 3, axis=0)
    plain, dense = (
        PartitioningGuidedKMeans(20, dense_eps=eps).fit(X) for eps in (None, 0)
    )
    assert_allclose(dense.inertia_, plain.inertia_, rtol=1e-4)


@pytest.mark.parametrize("eps", [0.01, 0.3])
def test_no_row_moves_further_than_eps(rows, eps):
    moved = np.linalg.norm(snap(rows, eps) - rows, axis=1)
    assert moved.max() <= eps * (1 + 1e-5)
    assert snap(rows, 0) is rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 11}, "n_samples=10 must not be below n_clusters=11"),
        ({"init": [[0.0, 1.0]]}, r"init must have one centre per cluster, shape \(8"),
        ({"init": "best"}, "init"),
        ({"empty_clusters": "ignore"}, "empty_clusters"),
        ({"dense_eps": -1.0}, "dense_eps"),
        ({"max_tentatives": 0}, "max_tentatives"),
    ],
)
def test_bad_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        PartitioningGuidedKMeans(**options).fit(np.eye(10, 2))


def test_bad_rows_and_weights_are_named():
    model = PartitioningGuidedKMeans(2)
    with pytest.raises(ValueError, match="NaN"):
        model.fit([[0.0], [np.nan], [1.0]])
    with pytest.raises(ValueError, match="positive entry|one non-zero"):
        model.fit(np.eye(3), sample_weight=np.zeros(3))
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        model.fit(np.eye(3), sample_weight=[1, -1, 1])


def test_no_codeword_of_a_real_layer_is_wasted(data_folder):
    with np.load(data_folder / "networks" / "lenet300100_dense.npz") as weights:
        X = weights["fc1.weight"].reshape(-1, 8)
    options = {"max_iter": 3, "random_state": 0}
    ipq = PartitioningGuidedKMeans(
        1024, init="random", empty_clusters="perturb", **options
    )
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        model = PartitioningGuidedKMeans(1024, **options).fit(X)
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        ipq.fit(X)
    assert model.n_effective_clusters_ == 1024
    assert model.history_[0].n_empty_before == 0
    assert ipq.history_[0].n_empty_before > 10
    assert model.inertia_ < 0.8 * ipq.inertia_
