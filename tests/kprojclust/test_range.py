"""Data far from one, and far from the origin."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans

from kprojclust import (
    EnsembleKSubspaces,
    KSubspaces,
    PartitioningGuidedKMeans,
    ProductQuantizer,
)

ESTIMATORS = [
    KSubspaces(3, 1, random_state=0),
    KSubspaces(3, 1, loss="l1", affine=True, random_state=0),
    EnsembleKSubspaces(3, 1, random_state=0),
    PartitioningGuidedKMeans(3, random_state=0),
    ProductQuantizer(1, 3, clusterer=KMeans(random_state=0)),
]
POWERS = {"float32": (0, -30, 30), "float64": (0, -200, 200)}


def lines(dtype="float64"):
    """Rows near three lines, in three groups."""
    rng = np.random.default_rng(0)
    along, points = rng.standard_normal((3, 40, 1)), rng.standard_normal((3, 1, 5))
    X = along * rng.standard_normal((3, 1, 5)) + 3 * points
    return (X.reshape(-1, 5) + 0.01 * rng.standard_normal((120, 5))).astype(dtype)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_cannot_be_squared_is_refused_in_words(estimator, dtype):
    least, most = {"float32": (1e-18, 1e20), "float64": (1e-200, 1e160)}[dtype]
    for scale in (least, most):
        with pytest.raises(ValueError, match=r"X must have entries.* Divide X\s+by it"):
            estimator.fit(lines(dtype) * np.asarray(scale, dtype))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("dtype", POWERS)
def test_powers_of_two_change_no_label(estimator, dtype):
    X, scales = lines(dtype), np.ldexp(np.asarray(1, dtype), POWERS[dtype])
    fits = [clone(estimator).fit(X * scale) for scale in scales]
    if isinstance(estimator, ProductQuantizer):
        pairs = zip(fits, scales, strict=True)
        first, *others = (fit.transform(X * scale) for fit, scale in pairs)
    else:
        first, *others = (fit.labels_ for fit in fits)
    for other in others:
        assert_array_equal(other, first)


@pytest.mark.parametrize(
    ("dtype", "shifts"), [("float64", [1e6, 1.7e9]), ("float32", [1013, 1e4])]
)
def test_scores_of_affine_fits_do_not_depend_on_the_origin(dtype, shifts):
    model = KSubspaces(3, 1, affine=True, random_state=0)
    X = lines()
    score = model.fit(X).score(X)
    noise = np.sort(model.noise_variance_)
    for shift in shifts:
        moved = (X + shift).astype(dtype)
        assert_allclose(model.fit(moved).score(moved), score, rtol=1e-3)
        assert_allclose(np.sort(model.noise_variance_), noise, rtol=0.05)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("loss", ["l1", "welsch", "tukey", "cauchy", "truncated"])
def test_no_loss_rises_in_single_precision(loss, affine):
    for seed in range(8):
        X = np.random.default_rng(seed).standard_normal((40, 5)).astype("float32")
        if seed % 2:
            X = np.round(X)
        model = KSubspaces(
            6, 3, loss=loss, affine=affine, init="random", n_init=1, random_state=seed
        ).fit(X)
        curve = np.array(model.loss_curve_)
        total = model.loss_.rho(np.linalg.norm(X, axis=1)).sum()
        assert np.max(np.diff(curve), initial=0) <= 1e-6 * total
        assert_allclose(curve[-1], model.inertia_)


def test_a_path_is_a_file_of_rows(tmp_path):
    X = lines()
    np.save(tmp_path / "rows.npy", X)
    model = KSubspaces(3, 1, random_state=0)
    labels = model.fit(tmp_path / "rows.npy").labels_
    assert_array_equal(labels, model.fit(str(tmp_path / "rows.npy")).labels_)
    assert_array_equal(labels, model.predict(tmp_path / "rows.npy"))
