import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from kprojclust import (
    EnsembleKSubspaces,
    clustering_accuracy,
    make_subspaces,
)
from kprojclust._ensemble import co_association
from tests.kprojclust.problems import assert_same_subspaces


@pytest.fixture
def planted():
    """150 points on three planes in ten dimensions, with a little noise."""
    return make_subspaces(150, noise=0.02, random_state=0)


@pytest.fixture
def fitted(planted):
    return EnsembleKSubspaces(3, 2, n_estimators=8, random_state=0).fit(planted[0])


def test_planted_subspaces_are_found(planted, fitted):
    _, y, components = planted
    assert clustering_accuracy(y, fitted.labels_) == 1
    assert_same_subspaces(components, fitted.components_, 0.02)


def test_labels_are_predictions(planted, fitted):
    X = planted[0]
    assert np.array_equal(fitted.labels_, fitted.predict(X))
    distances = [np.sum((X - X @ V.T @ V) ** 2, axis=1) for V in fitted.components_]
    assert fitted.inertia_ == pytest.approx(np.min(distances, axis=0).sum())


def test_a_seed_repeats_the_fit(planted, fitted):
    again = EnsembleKSubspaces(3, 2, n_estimators=8, random_state=0).fit(planted[0])
    assert np.array_equal(again.labels_, fitted.labels_)
    assert again.inertia_ == fitted.inertia_


def test_co_association_is_the_share_of_runs():
    labels = np.array([[0, 0, 1, 1], [1, 1, 1, 0], [2, 0, 2, 2]])
    affinity = co_association(labels, 3).toarray()
    shares = np.mean(labels[:, :, np.newaxis] == labels[:, np.newaxis], axis=0)
    np.fill_diagonal(shares, 0)
    assert_allclose(affinity, shares)


def test_co_association_keeps_few_entries_a_row(planted, fitted):
    affinity = fitted.affinity_matrix_
    assert affinity.shape == (150, 150)
    assert np.diff(affinity.indptr).max() <= 150 / 3
    few = EnsembleKSubspaces(3, 2, n_estimators=3, n_neighbors=4, random_state=0)
    assert np.diff(few.fit(planted[0]).affinity_matrix_.indptr).max() == 4


def test_runs_may_have_more_clusters_than_the_result(planted):
    X, y, _ = planted
    model = EnsembleKSubspaces(
        3, [2, 2, 2], n_estimators=10, n_base_clusters=5, random_state=0
    ).fit(X)
    assert clustering_accuracy(y, model.labels_) > 0.95
    assert model.n_components_.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "X", [np.zeros((8, 3)), np.ones((8, 3)), np.eye(8, 3)], ids=str
)
def test_degenerate_rows_are_legal(X):
    model = EnsembleKSubspaces(4, 1, n_estimators=3, random_state=0)
    with pytest.warns(ConvergenceWarning, match="of n_clusters=4 subspaces have rows"):
        model.fit(X)
    assert np.array_equal(model.labels_, model.predict(X))
    assert model.inertia_ == pytest.approx(0, abs=1e-20)


def test_float32_rows_keep_their_type(planted):
    X = planted[0].astype(np.float32)
    model = EnsembleKSubspaces(3, 2, n_estimators=3, random_state=0).fit(X)
    assert {basis.dtype for basis in model.components_} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clusters": 151}, "n_samples=150 must not be below n_clusters=151"),
        ({"n_base_clusters": 151}, "must not be below n_base_clusters=151"),
        ({"n_estimators": 0}, "'n_estimators' parameter"),
        ({"n_components": 11}, "between 1 and n_features = 10. Got 11"),
    ],
)
def test_bad_parameters_are_named(planted, arguments, message):
    model = EnsembleKSubspaces(**{"n_clusters": 3, "n_components": 2, **arguments})
    with pytest.raises(ValueError, match=message):
        model.fit(planted[0])


def test_predict_needs_a_fit():
    with pytest.raises(NotFittedError):
        EnsembleKSubspaces().predict(np.eye(3))
