import numpy as np
from numpy.testing import assert_allclose

from kprojclust._geometry.averages import cluster_means, cluster_sums
from kprojclust._geometry.axes import cut_clusters, principal_axes


def clusters(n_clusters=3, n_samples=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n_samples) % n_clusters
    X = rng.standard_normal((n_samples, 4)) * [5, 1, 1, 0.5] + 3 * labels[:, None]
    return X, rng.uniform(0.5, 2, n_samples), labels


def test_sums_and_means_are_those_of_a_loop():
    X, weights, labels = clusters()
    sums = cluster_sums(X, weights, labels, 4)
    expected = [(weights[labels == c] @ X[labels == c]) for c in range(4)]
    assert_allclose(sums, expected, rtol=1e-12)
    means = cluster_means(X, weights, labels, np.full((4, 4), 7.0))
    assert_allclose(means[1], np.average(X[labels == 1], 0, weights[labels == 1]))
    assert_allclose(means[3], 7)  # without rows it stays


def test_principal_axes_are_near_the_leading_singular_vectors():
    X, weights, labels = clusters(n_samples=600)
    residuals = X - cluster_means(X, weights, labels, np.zeros((3, 4)))[labels]
    axes = principal_axes(residuals, weights, labels, 3)
    for c, axis in enumerate(axes):
        own = labels == c
        scaled = np.sqrt(weights[own])[:, None] * residuals[own]
        assert abs(axis @ np.linalg.svd(scaled)[2][0]) > 0.999


def test_a_cluster_without_energy_has_no_axis():
    axes = principal_axes(np.zeros((3, 2)), np.ones(3), np.zeros(3, int), 2)
    assert_allclose(axes, 0)


def test_gain_of_a_cut_is_what_the_objective_falls_by():
    X, weights, labels = clusters()
    centers = cluster_means(X, weights, labels, np.zeros((3, 4)))
    cut = cut_clusters(X, weights, labels, centers)
    for c in range(3):
        own = labels == c
        before = weights[own] @ np.sum((X[own] - centers[c]) ** 2, axis=1)
        halves = cut.centers[c][cut.above[own].astype(int)]
        after = weights[own] @ np.sum((X[own] - halves) ** 2, axis=1)
        assert_allclose(cut.gains[c], before - after, rtol=1e-9)


def test_equal_rows_are_not_cut_apart():
    X = np.repeat([[0.1, 0.2], [0.3, 0.7]], [5, 3], axis=0)
    labels = np.zeros(8, int)
    centers = X.mean(axis=0, keepdims=True)
    cut = cut_clusters(X, np.ones(8), labels, centers)
    assert len(set(cut.above[:5])) == len(set(cut.above[5:])) == 1
    assert cut.gains[0] > 0
    equal = cut_clusters(X[:5], np.ones(5), labels[:5], X[:1])
    assert equal.gains[0] == 0
