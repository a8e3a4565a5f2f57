"""Second moments of clusters, kept up to date while rows move."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kprojclust._engine.assignment import totals_of_labels
from kprojclust._engine.empty_clusters import Fill
from kprojclust._engine.moments import all_moments, moved_moments
from kprojclust._engine.scatter import Scatter
from kprojclust._geometry.distances import squared_distances
from kprojclust._geometry.subspaces import Flat, fit_flat
from kprojclust._rows.state import RowState
from tests import reference

K, D = 3, 8


def state_of(labels, weights):
    nothing = np.zeros(len(labels))
    return RowState(weights, labels, nothing, nothing, weights)


def totals_of(X, before, after, origin, collect):
    totals = totals_of_labels(X, after, K, all_moments, origin)[1]
    return totals._replace(moments=collect(X, before, after, K, origin))


def scatter_of(X, labels, weights, origin=None, constant_weights=True):
    """From scratch."""
    scatter = Scatter(K, X.shape[1], X.dtype, origin, constant_weights)
    state = state_of(labels, weights)
    scatter.update(state, totals_of(X, state, state, origin, all_moments))
    return scatter


def assert_same(scatter, other):
    for found, true in zip(scatter.spectra(), other.spectra(), strict=True):
        assert_allclose(found.energies, true.energies, atol=1e-8)
        assert_allclose(found.mean, true.mean, atol=1e-10)


def problem(seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((200, D)) * np.arange(D, 0, -1) + shift
    return X, rng.integers(K, size=200), rng.uniform(0.5, 2, 200), rng


@pytest.mark.parametrize("affine", [False, True])
def test_moved_rows_change_moments_as_if_built_anew(affine):
    X, labels, weights, rng = problem(shift=5.0)
    origin = X.mean(axis=0) if affine else None
    scatter = scatter_of(X, labels, weights, origin)
    for share in (0.5, 0.1, 0.01, 0):
        moved = np.where(rng.random(200) < share, rng.integers(K, size=200), labels)
        before, after = state_of(labels, weights), state_of(moved, weights)
        totals = totals_of(X, before, after, origin, moved_moments)
        scatter.update(after, totals)
        labels = moved
    assert_same(scatter, scatter_of(X, labels, weights, origin))


@pytest.mark.parametrize("constant_weights", [False, True])
def test_nothing_is_left_of_a_cluster_that_lost_its_rows(constant_weights):
    X, labels, weights, _ = problem()
    scatter = scatter_of(X, labels, weights, constant_weights=constant_weights)
    scatter.spectra()
    before = state_of(labels, weights)
    after = state_of(np.where(labels == 1, 0, labels), weights)
    collect = moved_moments if constant_weights else all_moments
    scatter.update(after, totals_of(X, before, after, None, collect))
    assert not scatter.spectra()[1].energies.any()
    assert_same(scatter, scatter_of(X, after.labels, weights))


def test_rows_that_fill_a_cluster_take_their_moments_along():
    X, labels, weights, _ = problem()
    scatter, rows = scatter_of(X, labels, weights), np.arange(7)
    new = (labels[rows] + 1) % K
    fill = Fill(rows, X[rows], weights[rows], labels[rows], new)
    labels = np.append(new, labels[7:])
    scatter.move(state_of(labels, weights), fill)
    assert_same(scatter, scatter_of(X, labels, weights))


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("n_components", [0, 2, 4, 6, 8])
def test_flats_are_those_of_the_rows(affine, n_components):
    X, labels, weights, _ = problem(shift=2.0)
    scatter = scatter_of(X, labels, weights, X.mean(axis=0) if affine else None)
    for c, flat in enumerate(scatter.flats([n_components] * K)):
        own, weight = X[labels == c], weights[labels == c]
        true = fit_flat(own, weight, n_components, affine)
        assert_allclose(flat.mean, true.mean, atol=1e-12)
        left = [weight @ squared_distances(own, [f])[:, 0] for f in (flat, true)]
        assert_allclose(*left, rtol=1e-10, atol=1e-20)
        assert (flat.normals is not None) == (n_components > D / 2)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("n_components", [1, 3, 6])
def test_left_over_is_the_explicit_sum(affine, n_components):
    X, labels, weights, _ = problem(shift=2.0)
    scatter = scatter_of(X, labels, weights, X.mean(axis=0) if affine else None)
    flats = scatter.flats([n_components] * K)
    slow = [
        weights[labels == c]
        @ reference.squared_distances(X[labels == c] - flat.mean, [flat.components])
        for c, flat in enumerate(flats)
    ]
    assert_allclose(scatter.left_over(flats), np.sum(slow), rtol=1e-10)
    assert scatter.left_over(flats) > scatter.resolution()


def test_left_over_is_below_the_resolution_where_flats_are_exact():
    X, labels, weights, _ = problem()
    X = X.astype(np.float32)
    X[:, 2:] = 0
    scatter = scatter_of(X, labels, weights.astype(np.float32))
    assert abs(scatter.left_over(scatter.flats([2] * K))) < scatter.resolution()


def energies_along(X, labels, flats):
    return [np.sum((X[labels == c] @ f.components.T) ** 2) for c, f in enumerate(flats)]


@pytest.mark.parametrize("n_components", [1, 4, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_improved_flat_never_loses_energy(n_components, dtype):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((600, 64)) * np.arange(1, 65) ** -0.5).astype(dtype)
    labels, weights = rng.integers(K, size=600), np.ones(600, dtype)
    scatter = scatter_of(X, labels, weights)
    bases = [np.linalg.qr(rng.standard_normal((64, n_components)))[0].T] * K
    flats = [Flat(np.zeros(64, dtype), basis.astype(dtype)) for basis in bases]
    best = energies_along(X, labels, scatter_of(X, labels, weights).flats([8] * K))
    for _ in range(3):
        better = scatter.improved(flats)
        gains = np.subtract(*[energies_along(X, labels, f) for f in (better, flats)])
        assert np.all(gains >= -1e-6 * np.array(best))
        scatter = scatter_of(X, labels, weights)  # improves changed clusters only
        flats = better
    for flat in flats:
        gram = flat.components @ flat.components.T
        assert_allclose(gram, np.eye(n_components), atol=1e-5)


def test_improved_flats_approach_the_best():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 64)) * np.arange(1, 65) ** -0.5
    labels, weights = rng.integers(K, size=600), np.ones(600)
    flats = [Flat(np.zeros(64), np.eye(4, 64)[::-1])] * K
    for _ in range(4):
        flats = scatter_of(X, labels, weights).improved(flats)
    best = scatter_of(X, labels, weights).flats([4] * K)
    found, most = (energies_along(X, labels, f) for f in (flats, best))
    assert_allclose(found, most, rtol=1e-4)


def test_improved_leaves_unchanged_clusters_alone():
    X, labels, weights, _ = problem()
    scatter = scatter_of(X, labels, weights)
    flats = scatter.flats([1] * K)
    assert all(a is b for a, b in zip(scatter.improved(flats), flats, strict=True))
