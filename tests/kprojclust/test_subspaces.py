import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import config_context

from kprojclust._subspaces import fit_subspace, squared_distances
from tests import reference


@pytest.mark.parametrize("shape", [(40, 7), (5, 7), (7, 7)], ids=str)
@pytest.mark.parametrize("n_components", [1, 3, 7])
def test_fit_subspace_spans_what_the_full_svd_spans(shape, n_components):
    rng = np.random.default_rng(0)
    X, weight = rng.standard_normal(shape), rng.uniform(0.5, 2, shape[0])
    fast = fit_subspace(X, weight, n_components)
    slow = reference.fit_subspace(X, weight, n_components)
    assert_allclose(fast @ fast.T, np.eye(n_components), atol=1e-12)
    residuals = reference.squared_distances(X, [fast, slow])
    assert_allclose(*(weight @ residuals), atol=1e-12, rtol=1e-12)


def test_fit_subspace_orders_directions_by_strength_with_fixed_signs():
    X = np.diag([3.0, -2.0, 1.0])
    assert_allclose(fit_subspace(X, np.ones(3), 2), np.eye(2, 3), atol=1e-15)


@pytest.mark.parametrize("n_samples", [0, 1, 2])
def test_fit_subspace_completes_the_basis_where_rows_are_few(n_samples):
    X = np.random.default_rng(0).standard_normal((n_samples, 5))
    basis = fit_subspace(X, np.ones(n_samples), 4)
    assert_allclose(basis @ basis.T, np.eye(4), atol=1e-12)
    assert_allclose(X @ basis.T @ basis, X, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squared_distances_match_the_loops(dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 8)).astype(dtype)
    components = [np.linalg.qr(rng.standard_normal((8, j)))[0].T for j in (1, 3, 8)]
    fast = squared_distances(X, [basis.astype(dtype) for basis in components])
    assert fast.dtype == dtype
    atol = 1e-5 if dtype == np.float32 else 1e-13
    assert_allclose(fast, reference.squared_distances(X, components), atol=atol)


def test_squared_distances_survive_cancellation_in_float32():
    rng = np.random.default_rng(0)
    basis = np.eye(2, 6, dtype=np.float32)
    X = np.zeros((50, 6), dtype=np.float32)
    X[:, :2] = 1000 * rng.standard_normal((50, 2))
    X[:, 2] = 1e-2  # a part in 10^5, far below what |a|^2 - |Va|^2 resolves
    assert_allclose(squared_distances(X, [basis])[:, 0], 1e-4, rtol=1e-4)


def test_squared_distances_do_not_depend_on_the_block_size():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 40))
    components = [fit_subspace(X[c::3], np.ones(100), 5) for c in range(3)]
    whole = squared_distances(X, components)
    with config_context(working_memory=15 * 8 * 7 / 2**20):  # seven rows a block
        assert_allclose(squared_distances(X, components), whole, rtol=1e-12)
