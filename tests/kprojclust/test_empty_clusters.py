import numpy as np

from kprojclust import make_subspaces
from kprojclust._engine.empty_clusters import fill_clusters, starved_clusters
from kprojclust._geometry.distances import squared_distances
from kprojclust._geometry.subspaces import fit_flat


def one_cluster_for_all(X, n_components):
    """Labels and costs when the first subspace takes every row."""
    flat = fit_flat(X, np.ones(len(X)), n_components[0])
    return np.zeros(len(X), dtype=np.intp), squared_distances(X, [flat])[:, 0]


def fill_starved(X, weights, labels, costs, dimensions):
    members = np.bincount(labels[weights > 0], minlength=len(dimensions))
    starved = starved_clusters(members, dimensions, affine=False)
    return fill_clusters(X, weights, labels, costs, dimensions, starved)


def refitted_cost(X, labels, n_components):
    flats = [
        fit_flat(X[labels == c], np.ones(np.sum(labels == c)), j)
        for c, j in enumerate(n_components)
    ]
    return squared_distances(X, flats).min(axis=1).sum()


def test_empty_clusters_are_filled_and_the_objective_falls():
    X, _, _ = make_subspaces(n_clusters=3, n_components=2, random_state=0)
    dimensions = np.full(4, 2)
    labels, costs = one_cluster_for_all(X, dimensions)
    filled = fill_starved(X, np.ones(len(X)), labels, costs, dimensions)
    assert set(filled) == {0, 1, 2, 3}
    assert refitted_cost(X, filled, dimensions) < costs.sum()


def test_labels_without_empty_clusters_come_back_as_they_are():
    X = np.random.default_rng(0).standard_normal((6, 3))
    labels = np.array([0, 1, 0, 1, 0, 1])  # enough rows each for a line
    args = X, np.ones(6), labels, np.ones(6), np.array([1, 1])
    assert fill_starved(*args) is labels


def test_rows_without_cost_are_never_split():
    X = np.outer(np.arange(1.0, 7.0), [1.0, 2.0, 3.0])
    dimensions = np.array([1, 1])
    labels, costs = one_cluster_for_all(X, dimensions)
    assert fill_starved(X, np.ones(6), labels, costs, dimensions) is labels


def test_a_single_row_is_never_split():
    X = np.array([[1.0, 0.0], [0.0, 1.0]])
    labels, dimensions = np.array([0, 1]), np.array([1, 1, 1])
    costs = np.array([0.0, 5.0])
    assert fill_starved(X, np.ones(2), labels, costs, dimensions) is labels


def test_rows_of_weight_zero_do_not_keep_a_cluster_alive():
    X, _, _ = make_subspaces(n_samples=40, n_clusters=2, random_state=0)
    weight = np.ones(40)
    weight[0] = 0
    dimensions = np.array([2, 2])
    labels, costs = one_cluster_for_all(X, dimensions)
    labels[0] = 1
    filled = fill_starved(X, weight, labels, costs, dimensions)
    assert np.any(filled[1:] == 1)


def test_an_heir_of_lower_dimension_still_lowers_the_objective():
    X = np.random.default_rng(0).standard_normal((30, 6))
    dimensions = np.array([4, 1, 2])
    labels, costs = one_cluster_for_all(X, dimensions)
    filled = fill_starved(X, np.ones(30), labels, costs, dimensions)
    assert set(filled) == {0, 1, 2}
    assert refitted_cost(X, filled, dimensions) < costs.sum()


def test_a_starved_cluster_gains_the_rows_of_largest_cost():
    X = np.random.default_rng(0).standard_normal((20, 6))
    dimensions = np.array([2, 3])
    labels, costs = one_cluster_for_all(X, dimensions)
    labels[7], costs[7] = 1, 0.0
    filled = fill_starved(X, np.ones(20), labels, costs, dimensions)
    worst = np.argsort(-costs)[:2]
    assert sorted(np.flatnonzero(filled == 1)) == sorted([7, *worst])
    assert refitted_cost(X, filled, dimensions) < refitted_cost(X, labels, dimensions)
