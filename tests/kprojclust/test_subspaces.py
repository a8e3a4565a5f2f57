import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import config_context

from kprojclust._geometry.distances import squared_distances
from kprojclust._geometry.subspaces import Flat, decompose, fit_flat, fix_signs
from tests import reference


def linear(basis):
    return Flat(np.zeros(basis.shape[1], basis.dtype), basis)


@pytest.mark.parametrize("shape", [(40, 7), (5, 7), (7, 7)], ids=str)
@pytest.mark.parametrize("n_components", [0, 1, 3, 7])
@pytest.mark.parametrize("affine", [False, True])
def test_fit_flat_leaves_what_the_full_svd_leaves(shape, n_components, affine):
    rng = np.random.default_rng(0)
    X, weight = rng.standard_normal(shape) + 3, rng.uniform(0.5, 2, shape[0])
    mean, basis, _ = fit_flat(X, weight, n_components, affine)
    assert basis.shape == (n_components, shape[1])
    assert_allclose(basis @ basis.T, np.eye(n_components), atol=1e-12)
    assert_allclose(mean, np.average(X, axis=0, weights=weight) if affine else 0)
    slow = reference.fit_subspace(X - mean, weight, n_components)
    left = reference.squared_distances(X - mean, [basis, slow])
    assert_allclose(*(weight @ left), atol=1e-12, rtol=1e-12)


def test_fit_flat_orders_directions_by_strength_with_fixed_signs():
    X = np.diag([3.0, -2.0, 1.0])
    flat = fit_flat(X, np.ones(3), 2)
    assert_allclose(flat.components, np.eye(2, 3), atol=1e-15)


@pytest.mark.parametrize("n_samples", [0, 1, 2])
def test_fit_flat_completes_the_basis_where_rows_are_few(n_samples):
    X = np.random.default_rng(0).standard_normal((n_samples, 5))
    basis = fit_flat(X, np.ones(n_samples), 4).components
    assert_allclose(basis @ basis.T, np.eye(4), atol=1e-12)
    assert_allclose(X @ basis.T @ basis, X, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 7), (5, 7)], ids=str)
@pytest.mark.parametrize("affine", [False, True])
def test_a_spectrum_knows_the_cost_of_every_dimension(shape, affine):
    rng = np.random.default_rng(0)
    X, weight = rng.standard_normal(shape) + 1, rng.uniform(0.5, 2, shape[0])
    spectrum = decompose(X, weight, affine)
    for j in range(8):
        flat = fit_flat(X, weight, j, affine)
        left = weight @ squared_distances(X, [flat])[:, 0]
        assert_allclose(spectrum.residuals()[j], left, atol=1e-10)
        left = weight @ squared_distances(X, [spectrum.flat(j)])[:, 0]
        assert_allclose(spectrum.residuals()[j], left, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squared_distances_match_the_loops(dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 8)).astype(dtype)
    bases = [np.linalg.qr(rng.standard_normal((8, j)))[0].T for j in (0, 1, 3, 8)]
    means = rng.standard_normal((4, 8)).astype(dtype)
    flats = [
        Flat(*both)
        for both in zip(means, [b.astype(dtype) for b in bases], strict=True)
    ]
    fast = squared_distances(X, flats)
    assert fast.dtype == dtype
    slow = [
        reference.squared_distances(X - mean, [basis])[:, 0]
        for mean, basis in zip(means, bases, strict=True)
    ]
    atol = 1e-5 if dtype == np.float32 else 1e-13
    assert_allclose(fast, np.transpose(slow), atol=atol)


@pytest.mark.parametrize("mean", [0.0, 500.0])
def test_squared_distances_survive_cancellation_in_float32(mean):
    rng = np.random.default_rng(0)
    basis = np.eye(2, 6, dtype=np.float32)
    X = np.zeros((50, 6), dtype=np.float32)
    X[:, :2] = 1000 * rng.standard_normal((50, 2))
    X[:, 2] = 2.0**-6  # a part in 10^5, far below what |a|^2 - |Va|^2 resolves
    X[:, 4] = mean
    flat = Flat(np.array([0, 0, 0, 0, mean, 0], dtype=np.float32), basis)
    assert_allclose(squared_distances(X, [flat])[:, 0], 2.0**-12, rtol=1e-4)


def test_squared_distances_do_not_depend_on_the_block_size():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 40))
    flats = [fit_flat(X[c::3], np.ones(100), 5, affine=True) for c in range(3)]
    whole = squared_distances(X, flats)
    with config_context(working_memory=21 * 8 * 7 / 2**20):  # seven rows a block
        assert_allclose(squared_distances(X, flats), whole, rtol=1e-12)


def with_and_without_normals(mean, n_components, dtype):
    """The same flat twice, in a random direction."""
    rng = np.random.default_rng(1)
    d = len(mean)
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(dtype)
    along, across = np.split(Q, [n_components])
    return Flat(mean, along, across), Flat(mean, along)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_distances_through_normals_are_those_through_components(dtype, shift):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 10)).astype(dtype)
    flats = with_and_without_normals(np.full(10, shift, dtype), 7, dtype)
    through_normals, through_components = squared_distances(X, flats).T
    atol = 1e-4 if dtype == np.float32 else 1e-12
    assert_allclose(through_normals, through_components, atol=atol)


@pytest.mark.parametrize("size", [0.0, 500.0])
def test_both_kinds_of_distances_survive_cancellation_in_float32(size):
    rng = np.random.default_rng(0)
    mean = np.full(6, size, np.float32)
    flats = with_and_without_normals(mean, 4, np.float32)
    along, across = flats[0].components, flats[0].normals
    X = 1000 * rng.standard_normal((50, 4)) @ along + 2.0**-3 * across[0] + mean
    # Rounding X itself to float32 moves it by 1e-4.
    squared = squared_distances(X.astype(np.float32), flats)
    assert_allclose(np.sqrt(squared), 2.0**-3, atol=1e-3)


def test_signs_are_fixed_without_moving_the_flat():
    components = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0]])
    flat = fix_signs(linear(components))
    assert_allclose(flat.components, [[-0.6, 0.8, 0], [0.8, 0.6, 0]])
