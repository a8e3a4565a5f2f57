import numpy as np
import pytest
from numpy.testing import assert_allclose

from kprojclust import make_subspaces


def test_points_lie_on_the_subspaces_they_are_labelled_with():
    X, y, components = make_subspaces(n_components=[1, 2, 3], random_state=0)
    for c, basis in enumerate(components):
        assert_allclose(basis @ basis.T, np.eye(c + 1), atol=1e-12)
        assert_allclose(X[y == c] @ basis.T @ basis, X[y == c], atol=1e-12)


def test_clusters_are_of_even_size_and_seeds_repeat():
    X, y, _ = make_subspaces(n_samples=32, n_clusters=3, random_state=1)
    assert sorted(np.bincount(y)) == [10, 11, 11]
    assert np.array_equal(X, make_subspaces(n_samples=32, random_state=1)[0])


def test_noise_has_the_spread_that_is_asked_for():
    clean, _, _ = make_subspaces(n_samples=5000, random_state=0)
    noisy, _, _ = make_subspaces(n_samples=5000, noise=0.1, random_state=0)
    assert np.std(noisy - clean) == pytest.approx(0.1, rel=0.02)


def test_outliers_are_labelled_and_far_from_every_subspace():
    X, y, components = make_subspaces(outlier_fraction=0.2, random_state=0)
    assert np.sum(y == -1) == 60
    for basis in components:
        residuals = X[y == -1] - X[y == -1] @ basis.T @ basis
        assert np.linalg.norm(residuals, axis=1).min() > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clusters": 0}, "n_clusters"),
        ({"noise": -1.0}, "noise"),
        ({"outlier_fraction": 1.0}, "outlier_fraction"),
        ({"n_components": 11}, "between 1 and n_features = 10"),
        ({"n_components": [1, 2]}, "one entry per cluster, n_clusters=3"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_subspaces(**arguments)
