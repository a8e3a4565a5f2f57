"""What must hold of centres for any rows, whatever they are."""

import warnings

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning

from kprojclust import PartitioningGuidedKMeans
from tests.properties.test_ksubspaces_properties import matrices


@st.composite
def problems(draw):
    """Rows, weights, and an estimator that fits them."""
    X = draw(matrices)
    weight = draw(arrays(np.float64, len(X), elements=st.integers(0, 3).map(float)))
    weight[draw(st.integers(0, len(X) - 1))] = 1.0
    model = PartitioningGuidedKMeans(
        draw(st.integers(1, min(len(X), 6))),
        init=draw(st.sampled_from(["partition", "k-means++", "random"])),
        empty_clusters=draw(st.sampled_from(["partition", "farthest", "perturb"])),
        dense_eps=draw(st.sampled_from([None, 0.0, 0.5])),
        max_tentatives=3,
        random_state=0,
    )
    return X, weight, model


@given(problems())
def test_labels_are_predictions_and_the_inertia_is_theirs(problem):
    X, weight, model = problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, sample_weight=weight)
    assert np.array_equal(model.labels_, model.predict(X))
    squared = np.sum((X - model.cluster_centers_[model.labels_]) ** 2, axis=1)
    assert_allclose(model.inertia_, weight @ squared, rtol=1e-9, atol=1e-9)
    assert model.n_effective_clusters_ == len(set(model.labels_[weight > 0]))


@given(problems())
def test_no_cluster_is_empty_while_there_are_distinct_rows(problem):
    X, weight, model = problem
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(empty_clusters="partition", dense_eps=None)
        model.fit(X, sample_weight=weight)
    n_distinct = len(np.unique(X[weight > 0], axis=0))
    assert model.n_effective_clusters_ == min(model.n_clusters, n_distinct)
