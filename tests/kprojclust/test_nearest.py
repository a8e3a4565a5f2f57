"""The search for the nearest centre, against all distances in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kprojclust._kmeans.nearest import nearest_centers


def all_distances(X, centers):
    differences = X[:, np.newaxis].astype(np.float64) - centers.astype(np.float64)
    return np.sum(differences**2, axis=2)


@given(
    seed=st.integers(0, 99),
    n_samples=st.integers(1, 300),
    n_centers=st.integers(1, 40),
    n_features=st.integers(1, 9),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_no_centre_is_nearer(seed, n_samples, n_centers, n_features, dtype):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, n_features)).astype(dtype)
    centers = rng.standard_normal((n_centers, n_features)).astype(dtype)
    labels, squared = nearest_centers(X, centers)
    distances = all_distances(X, centers)
    slack = 1e-5 if dtype == np.float32 else 1e-12
    assert labels.dtype == np.intp
    assert squared.dtype == dtype
    np.testing.assert_allclose(squared, distances.min(axis=1), rtol=slack, atol=slack)


def test_far_from_the_origin_float32_is_as_exact():
    rng = np.random.default_rng(0)
    X = (1e4 + rng.standard_normal((500, 4))).astype(np.float32)
    centers = X[:50]
    labels, squared = nearest_centers(X, centers)
    assert np.array_equal(labels, np.argmin(all_distances(X, centers), axis=1))
    assert np.array_equal(labels[:50], np.arange(50))
    assert not squared[:50].any()


def test_of_equal_centres_the_first_is_taken():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 8)).astype(np.float32)
    centers = X[rng.integers(0, 500, 1024)]
    labels, _ = nearest_centers(X, centers)
    assert len(np.unique(labels)) == len(np.unique(centers, axis=0))
    for label in np.unique(labels):
        assert np.flatnonzero((centers == centers[label]).all(axis=1))[0] == label


@pytest.mark.parametrize("n_features", [1, 3])
def test_calls_do_not_share_centres(n_features):
    X = np.ones((2, n_features))
    far, near = np.full((1, n_features), 5.0), np.ones((4, n_features))
    assert nearest_centers(X, far)[1].tolist() == [16.0 * n_features] * 2
    assert nearest_centers(X, near)[1].tolist() == [0.0, 0.0]
    assert nearest_centers(X, far)[1].tolist() == [16.0 * n_features] * 2
