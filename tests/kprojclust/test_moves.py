import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kprojclust._geometry.averages import cluster_means
from kprojclust._kmeans.lloyd import Problem, assign
from kprojclust._kmeans.moves import move_centers
from kprojclust._kmeans.partition import partition_centers
from tests import reference


def four_blobs():
    """Three blobs near one another, in three clusters, and two far apart in one."""
    rng = np.random.default_rng(0)
    places = [[0, 0], [4, 0], [4.5, 0], [30, 0], [30, 9]]
    X = np.concatenate([rng.normal(p, 0.1, (20, 2)) for p in places])
    return X, np.repeat([0, 1, 2, 3], [20, 20, 20, 40])


def means(X, labels, n_clusters):
    return np.array([X[labels == c].mean(axis=0) for c in range(n_clusters)])


def test_the_cluster_that_is_missed_least_is_dissolved_and_the_worst_one_cut():
    X, labels = four_blobs()
    moved, n_moved = move_centers(X, np.ones(100), labels, means(X, labels, 4))
    expected, objective = reference.best_move(X, labels, victim=1, heir=2, donor=3)
    assert n_moved == 1
    assert_allclose(np.sort(moved, axis=0), np.sort(expected, axis=0), rtol=1e-9)
    assert assign(Problem(X, np.ones(100)), moved).objective <= objective


def test_centres_stay_where_no_move_pays():
    X, _ = four_blobs()
    labels = np.repeat(np.arange(5), 20)
    moved, n_moved = move_centers(X, np.ones(100), labels, means(X, labels, 5))
    assert n_moved == 0
    assert_allclose(moved, means(X, labels, 5))


def test_empty_clusters_are_the_first_to_go():
    X, labels = four_blobs()
    centers = np.append(means(X, labels, 4), [[99.0, 99.0]], axis=0)
    moved, n_moved = move_centers(X, np.ones(100), labels, centers)
    state = assign(Problem(X, np.ones(100)), moved)
    assert n_moved == 1
    assert not len(state.empty)


@pytest.mark.parametrize("seed", range(5))
def test_with_full_caution_the_objective_never_rises(seed):
    rng = np.random.default_rng(seed)
    X, weights = rng.standard_t(2, (400, 3)), rng.uniform(0, 2, 400)
    state = assign(Problem(X, weights), X[rng.choice(400, 30, replace=False)])
    for _ in range(5):
        centers = cluster_means(X, weights, state.labels, state.centers)
        centers, _ = move_centers(X, weights, state.labels, centers)
        new = assign(Problem(X, weights), centers)
        assert new.objective <= state.objective * (1 + 1e-12)
        state = new


def test_partition_cuts_what_gains_most_first():
    X, _ = four_blobs()
    centers = partition_centers(X, np.ones(100), 2)
    parts = X[:60], X[60:]
    distances = [np.linalg.norm(part - part.mean(axis=0), axis=1) for part in parts]
    middle = [part[x.argmin()] for part, x in zip(parts, distances, strict=True)]
    assert sorted(map(tuple, centers)) == sorted(map(tuple, middle))
    five = partition_centers(X, np.ones(100), 5)
    assert assign(Problem(X, np.ones(100)), five).objective < 100 * 2 * 0.1**2 * 1.5


@given(seed=st.integers(0, 99), n_clusters=st.integers(1, 200))
def test_no_cluster_of_the_partition_starts_empty(seed, n_clusters):
    rng = np.random.default_rng(seed)
    X = rng.standard_t(2, (200, 4)).astype(np.float32).round(2)
    weights = rng.integers(0, 3, 200).astype(np.float64)
    centers = partition_centers(X, weights, n_clusters)
    n_distinct = len(np.unique(X[weights > 0], axis=0))
    assert len(centers) == min(n_clusters, n_distinct)
    assert not len(assign(Problem(X, weights), centers).empty)


def test_partition_stops_at_the_number_of_distinct_rows():
    X = np.repeat([[0.0, 1.0], [2.0, 3.0], [2.0, 4.0]], [4, 1, 2], axis=0)
    centers = partition_centers(X, np.ones(7), 6)
    assert sorted(map(tuple, centers)) == [(0, 1), (2, 3), (2, 4)]


def test_partition_does_not_see_rows_without_weight():
    X = np.array([[0.0], [1.0], [50.0]])
    centers = partition_centers(X, np.array([1.0, 1.0, 0.0]), 3)
    assert sorted(centers[:, 0]) == [0, 1]
