import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import block_diag, csr_array

from kprojclust import clustering_accuracy, make_subspaces
from kprojclust._starts.affinity import (
    keep_largest,
    nearest_directions,
    ridge_directions,
    spectral_clusters,
)
from kprojclust._starts.initialization import STARTS


def start(name, X, n_components, weight=None, seed=0):
    weight = np.ones(len(X)) if weight is None else weight
    random_state = np.random.RandomState(seed)
    return STARTS[name](X, weight, np.array(n_components), random_state)


@pytest.mark.parametrize("name", sorted(STARTS))
def test_a_start_gives_labels_and_repeats_them(name):
    X, _, _ = make_subspaces(n_samples=60, random_state=0)
    first, second = (start(name, X, [2, 1, 3]) for _ in range(2))
    assert first.shape == (60,)
    assert set(first) <= {0, 1, 2}
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", sorted(STARTS))
@pytest.mark.parametrize(
    "X", [np.zeros((7, 3)), np.ones((7, 3)), np.eye(7, 3), np.eye(1)], ids=str
)
def test_a_start_bears_degenerate_rows(name, X):
    dimensions = np.ones(min(len(X), 5), dtype=int)
    weight = np.zeros(len(X))
    weight[-1] = 1
    labels = start(name, X, dimensions, weight)
    assert set(labels) <= set(range(len(dimensions)))


# Farthest insertion


def test_farthest_insertion_separates_orthogonal_planes():
    rng = np.random.default_rng(0)
    X = np.zeros((90, 6))
    y = np.arange(90) % 3
    for c in range(3):
        X[y == c, 2 * c : 2 * c + 2] = rng.standard_normal((30, 2))
    for seed in range(5):
        labels = start("farthest", X, [2, 2, 2], seed=seed)
        assert clustering_accuracy(y, labels) == 1


def test_farthest_insertion_ignores_rows_of_weight_zero():
    X = np.repeat(np.eye(3), 10, axis=0)
    weight = np.repeat([1.0, 1.0, 0.0], 10)
    labels = start("farthest", X, [1, 1], weight)
    assert len({*labels[:10]}) == len({*labels[10:20]}) == 1
    assert labels[0] != labels[10]


# Affinities


def test_ridge_directions_are_the_coefficients_of_the_regression():
    X = np.random.default_rng(0).standard_normal((8, 5))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    penalty = 0.5 * np.trace(X.T @ X) / 5
    C = X @ np.linalg.inv(X.T @ X + penalty * np.eye(5)) @ X.T
    scale = np.sqrt(np.diag(C))
    Z = ridge_directions(X, 0.5)
    assert_allclose(Z @ Z.T, C / np.outer(scale, scale), atol=1e-10)


def test_ridge_directions_of_wide_and_of_tall_rows_agree():
    X = np.random.default_rng(0).standard_normal((6, 6))
    tall = ridge_directions(X, 0.3)
    # The mean eigenvalue of nine features is two thirds of that of six.
    wide = ridge_directions(X @ np.eye(6, 9), 0.45)
    assert_allclose(np.abs(tall @ tall.T), np.abs(wide @ wide.T), atol=1e-10)


def test_nearest_directions_are_the_largest_absolute_cosines():
    Z = np.random.default_rng(0).standard_normal((12, 3))
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    graph = nearest_directions(Z, 4).toarray()
    cosines = np.abs(Z @ Z.T)
    np.fill_diagonal(cosines, 0)
    for row, expected in zip(graph, cosines, strict=True):
        assert_allclose(np.sort(row)[-4:], np.sort(expected)[-4:])
        assert np.count_nonzero(row) == 4


def test_keep_largest_is_the_same_for_dense_and_sparse():
    A = np.random.default_rng(0).uniform(size=(6, 9))
    A[A < 0.4] = 0
    A[2] = 0
    dense, sparse = keep_largest(A, 3), keep_largest(csr_array(A), 3)
    assert_allclose(dense.toarray(), sparse.toarray())
    assert sparse.nnz == sum(min(3, np.count_nonzero(row)) for row in A)


@pytest.mark.parametrize("n_samples", [300, 1200], ids=["dense", "iterative"])
def test_pieces_of_a_graph_are_its_clusters(n_samples):
    n = n_samples // 10
    rng = np.random.default_rng(0)
    graph = block_diag([rng.uniform(0.5, 1, (n, n)) for _ in range(10)]).tocsr()
    labels = spectral_clusters(graph, 10, np.random.RandomState(0))
    assert clustering_accuracy(np.arange(10).repeat(n), labels) == 1


def test_the_spectral_start_finds_many_planted_subspaces():
    X, y, _ = make_subspaces(
        1000, 30, n_clusters=10, n_components=4, noise=0.05, random_state=0
    )
    assert clustering_accuracy(y, start("spectral", X, [4] * 10)) > 0.99


def test_a_common_background_does_not_mislead_the_spectral_start():
    X, y, _ = make_subspaces(300, 20, noise=0.02, random_state=0)
    X += 10 * np.random.default_rng(0).standard_normal((300, 1)) * np.ones(20) / 4.5
    assert clustering_accuracy(y, start("spectral", X, [2] * 3)) > 0.95
