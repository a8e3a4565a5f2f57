"""Losses, Minkowski distances and affine flats inside the estimator."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kprojclust import KSubspaces, clustering_accuracy, make_subspaces, principal_angles
from kprojclust._engine.lewis import lewis_row_weights
from kprojclust._geometry.minkowski import minkowski_distances
from kprojclust._geometry.subspaces import fit_flat
from kprojclust.losses import LOSSES, HuberLoss, LqLoss, TruncatedLoss

LOSS_OBJECTS = [LqLoss(0.5), LqLoss(1.5), HuberLoss(0.3), TruncatedLoss(0.5)]


def worst_angle(true, found):
    return max(
        min(principal_angles(basis, other)[0] for other in found) for basis in true
    )


def shifted_subspaces(random_state, **arguments):
    """Planted subspaces, each moved away from the origin."""
    X, y, components = make_subspaces(random_state=random_state, **arguments)
    shifts = np.random.default_rng(random_state).normal(0, 3, (3, X.shape[1]))
    return X + shifts[y], y, components


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("loss", [*LOSSES, *LOSS_OBJECTS], ids=str)
def test_no_loss_ever_lets_the_objective_rise(loss, affine):
    X, _, _ = make_subspaces(150, 6, noise=0.1, outlier_fraction=0.2, random_state=0)
    weight = np.random.default_rng(0).uniform(0.2, 3, 150)
    for init in ("k-means", "random"):
        model = KSubspaces(
            3,
            2,
            loss=loss,
            affine=affine,
            init=init,
            n_init=2,
            tol=1e-7,
            random_state=0,
        ).fit(X, sample_weight=weight)
        assert np.all(np.diff(model.loss_curve_) <= 1e-9 * model.loss_curve_[0])
        assert np.array_equal(model.labels_, model.predict(X))
        residuals = model.transform(X).min(axis=1)
        objective = weight @ model.loss_.rho(residuals)
        assert model.inertia_ == pytest.approx(objective, rel=1e-6)


@pytest.mark.parametrize("loss", ["l1", "truncated", "tukey", "welsch"])
def test_a_fifth_of_gross_outliers_does_no_harm(loss):
    X, y, true = make_subspaces(
        600, 10, noise=0.02, outlier_fraction=0.2, random_state=0
    )
    robust = KSubspaces(3, 2, loss=loss, random_state=0).fit(X)
    assert worst_angle(true, robust.components_) < 0.02
    assert clustering_accuracy(y[y >= 0], robust.labels_[y >= 0]) > 0.98
    squared = KSubspaces(3, 2, random_state=0).fit(X)
    assert worst_angle(true, squared.components_) > 0.5


def test_constants_that_are_given_are_kept_and_others_estimated():
    X, _, _ = make_subspaces(600, 10, noise=0.02, random_state=0)
    given = KSubspaces(3, 2, loss=HuberLoss(0.7), random_state=0).fit(X)
    assert given.loss_.delta == 0.7
    estimated = KSubspaces(3, 2, loss="huber", random_state=0).fit(X)
    typical = np.median(estimated.transform(X).min(axis=1)) / 0.6745
    assert estimated.loss_.delta == pytest.approx(1.345 * typical, rel=0.05)
    assert estimated.loss == "huber"


class OwnLoss:
    """sqrt(1 + r^2) - 1, with nothing but the two methods."""

    def rho(self, residuals):
        return np.sqrt(1 + residuals**2) - 1

    def weights(self, residuals):
        return 0.5 / np.sqrt(1 + residuals**2)


def test_any_object_with_rho_and_weights_is_a_loss():
    X, y, _ = make_subspaces(noise=0.02, random_state=0)
    model = KSubspaces(3, 2, loss=OwnLoss(), random_state=0).fit(X)
    assert clustering_accuracy(y, model.labels_) == 1


class Cubed(OwnLoss):
    """Not concave in the squared residual."""

    def rho(self, residuals):
        return residuals**3

    def weights(self, residuals):
        return 1.5 * residuals


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("l3", "loss must be one of .* Got 'l3'"),
        (LqLoss(3), "q"),
        (Cubed(), "concave"),
        (object(), "'loss' parameter of KSubspaces must be"),
        (HuberLoss(-1.0), "delta must be positive"),
    ],
    ids=["unknown", "not l_q", "concave", "no loss", "not positive"],
)
def test_bad_losses_are_named(loss, message):
    with pytest.raises(ValueError, match=message):
        KSubspaces(3, 2, loss=loss).fit(make_subspaces(random_state=0)[0])


# Lewis weights


def test_lewis_weights_are_a_fixed_point():
    X = np.random.default_rng(0).standard_normal((60, 5)) * [9, 3, 1, 1, 0.1]
    weights = lewis_row_weights(X, 1.0, n_iter=60)
    u = 1 / weights  # for q = 1, up to a factor
    gram = np.linalg.inv(X.T @ (X / u[:, np.newaxis]))
    again = np.sqrt(np.einsum("ij,jk,ik->i", X, gram, X))
    assert_allclose(again / u, np.mean(again / u), rtol=1e-6)


def test_lewis_weights_keep_far_rows_down_and_take_zero_rows():
    X = np.vstack([np.random.default_rng(0).standard_normal((50, 4)), np.zeros((2, 4))])
    X[7] *= 1000
    weights = lewis_row_weights(X, 1.0)
    assert weights[7] < 0.1 * np.median(weights)
    assert np.all(np.isfinite(weights))
    assert np.array_equal(lewis_row_weights(np.zeros((3, 2)), 1.0), np.ones(3))


# Minkowski distances


def test_minkowski_distances_match_the_definition():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 5))
    flats = [fit_flat(rng.standard_normal((9, 5)), np.ones(9), 2, True) for _ in "ab"]
    for p in (1, 1.5, 2):
        fast = minkowski_distances(X, flats, p).T
        for c, (mean, basis, _) in enumerate(flats):
            left = (X - mean) @ (np.eye(5) - basis.T @ basis)
            slow = np.sum(np.abs(left) ** p, axis=1) ** (1 / p)
            assert_allclose(fast[:, c], slow, rtol=1e-12)


@pytest.mark.parametrize("loss", ["squared", "l1"])
@pytest.mark.parametrize("p", [1, 1.5])
def test_minkowski_fits_never_let_the_objective_rise_and_beat_the_euclidean(p, loss):
    X, y, _ = make_subspaces(150, 6, noise=0.05, random_state=0)
    start = KSubspaces(3, 2, loss=loss, random_state=0).fit(X)
    model = KSubspaces(3, 2, loss=loss, p=p, init=start.labels_, tol=1e-8).fit(X)
    assert np.all(np.diff(model.loss_curve_) <= 1e-12)
    assert np.array_equal(model.labels_, model.predict(X))
    ours = minkowski_distances(X, start_flats(model), p)
    assert_allclose(model.transform(X), ours.T)
    theirs = minkowski_distances(X, start_flats(start), p).min(axis=0)
    assert model.inertia_ <= start.loss_.rho(theirs).sum() * (1 + 1e-9)
    assert clustering_accuracy(y, model.labels_) > 0.97


def start_flats(model):
    return model._mixture.flats


# Affine flats


def test_affine_flats_are_found_with_their_means():
    X, y, true = shifted_subspaces(0, noise=0.01)
    model = KSubspaces(3, 2, affine=True, random_state=0).fit(X)
    assert clustering_accuracy(y, model.labels_) == 1
    assert worst_angle(true, model.components_) < 0.01
    for c in range(3):
        rows = model.labels_ == c
        assert_allclose(model.means_[c], X[rows].mean(axis=0), atol=1e-10)
    assert model.n_parameters_ == 2 * (300 + 30) + 30


def test_moving_all_rows_moves_affine_flats_along():
    X, _, _ = shifted_subspaces(1, noise=0.05)
    start = np.arange(300) % 3
    model = KSubspaces(3, 2, affine=True, init=start).fit(X)
    moved = KSubspaces(3, 2, affine=True, init=start).fit(X + 5.0)
    assert np.array_equal(model.labels_, moved.labels_)
    assert_allclose(moved.means_, model.means_ + 5.0, atol=1e-8)
    assert moved.inertia_ == pytest.approx(model.inertia_, rel=1e-8)


def test_linear_subspaces_have_no_mean():
    model = KSubspaces(3, 2, random_state=0).fit(make_subspaces(random_state=0)[0])
    assert np.array_equal(model.means_, np.zeros((3, 10)))


def test_affine_flats_of_dimension_0_are_k_means():
    X, _, _ = shifted_subspaces(2)
    start = np.arange(300) % 3
    model = KSubspaces(3, 0, affine=True, init=start, tol=0).fit(X)
    for c in range(3):
        assert_allclose(model.means_[c], X[model.labels_ == c].mean(axis=0), atol=1e-8)
    squared = np.sum((X - model.means_[model.labels_]) ** 2)
    assert model.inertia_ == pytest.approx(squared)


def test_decode_inverts_encode_on_affine_flats():
    X, _, _ = shifted_subspaces(3, noise=0.1)
    model = KSubspaces(3, [0, 2, 3], affine=True, random_state=0).fit(X)
    projected = model.project(X)
    left = np.linalg.norm(X - projected, axis=1)
    assert_allclose(left, model.transform(X).min(axis=1), atol=1e-8)
    assert_allclose(model.project(projected), projected, atol=1e-8)
