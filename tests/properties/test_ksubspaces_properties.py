"""What must hold for any rows, whatever they are."""

import warnings

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning

from kprojclust import KSubspaces

# Whole numbers make duplicates, zero rows and exact ties likely.
matrices = st.tuples(st.integers(1, 25), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))
)


@st.composite
def problems(draw):
    """Rows, weights, and an estimator that fits them."""
    X = draw(matrices)
    n_samples, n_features = X.shape
    k = draw(st.integers(1, min(n_samples, 5)))
    dimensions = draw(st.lists(st.integers(1, n_features), min_size=k, max_size=k))
    weight = draw(arrays(np.float64, n_samples, elements=st.integers(0, 3).map(float)))
    weight[draw(st.integers(0, n_samples - 1))] = 1.0
    init = draw(st.sampled_from(["farthest", "k-means", "random", "spectral"]))
    model = KSubspaces(k, dimensions, init=init, n_init=1, tol=0, random_state=0)
    model.set_params(n_relocations=draw(st.sampled_from([0, 2])))
    return X, weight, model


def fit(model, X, weight):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, sample_weight=weight)


@given(problems())
def test_labels_are_predictions_and_bases_orthonormal(problem):
    X, weight, model = problem
    fit(model, X, weight)
    assert np.array_equal(model.labels_, model.predict(X))
    for basis, dimension in zip(model.components_, model.n_components, strict=True):
        assert basis.shape == (dimension, X.shape[1])
        assert_allclose(basis @ basis.T, np.eye(dimension), atol=1e-9)


@given(problems())
def test_the_objective_never_rises(problem):
    X, weight, model = problem
    fit(model, X, weight)
    slack = 1e-10 * (1 + np.sum(weight[:, np.newaxis] * X**2))
    assert np.all(np.diff(model.loss_curve_) <= slack)


@given(problems())
def test_distances_obey_pythagoras(problem):
    X, weight, model = problem
    fit(model, X, weight)
    projected = model.project(X)
    nearest = model.transform(X).min(axis=1)
    slack = 1e-8 * (1 + np.sum(X**2))
    assert_allclose(
        np.sum(X**2, axis=1), np.sum(projected**2, axis=1) + nearest**2, atol=slack
    )


@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(1, 3))
def test_order_and_rotation_of_the_rows_do_not_matter(seed, k, n_components):
    rng = np.random.default_rng(seed)
    X, start = rng.standard_normal((30, 4)), rng.permutation(np.arange(30) % k)
    order = rng.permutation(30)
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    # One iteration: later ones may starve a cluster, whose basis is then arbitrary.
    model = KSubspaces(k, n_components, max_iter=1)
    plain = fit(model.set_params(init=start), X, np.ones(30))
    loss, labels = plain.inertia_, plain.labels_
    moved = fit(model.set_params(init=start[order]), X[order] @ rotation, np.ones(30))
    assert_allclose(moved.inertia_, loss, rtol=1e-8)
    assert np.array_equal(moved.labels_, labels[order])


@given(problems())
def test_a_refit_of_its_own_labels_is_not_worse(problem):
    X, weight, model = problem
    before = fit(model, X, weight).inertia_
    after = fit(model.set_params(init=model.labels_), X, weight).inertia_
    assert after <= before + 1e-10 * (1 + np.sum(weight[:, np.newaxis] * X**2))
