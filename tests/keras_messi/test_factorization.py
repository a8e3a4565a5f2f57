"""Matrices as clusters of rows on subspaces, against the formulas written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_messi import MessiConfig
from keras_messi.methods.subspaces.clustering import factorize, shared_clusterings
from tests import reference


def error(matrix, factors, weights=1.0):
    dense = reference.dense_matrix(*factors[:3])
    return np.sum(weights * np.sum((matrix - dense) ** 2, axis=1))


def numbers(factors):
    tables = [*factors.coordinates, *factors.bases]
    return sum(table.size for table in tables)


@given(
    st.integers(4, 40),
    st.integers(2, 12),
    st.integers(1, 4),
    st.floats(0.3, 0.9),
    st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_budgets_are_kept_and_every_cluster_has_a_direction(n, d, k, rate, seed):
    matrix = np.random.default_rng(seed).normal(size=(n, d))
    config = MessiConfig(rate=rate, num_clusters=k, seed=seed)
    if k > n or config.rank_for(n, d) < 1:
        return
    factors = factorize(matrix, config)
    assert numbers(factors) <= (1 - rate) * n * d + 1e-9
    assert all(len(basis) > 0 for basis in factors.bases)
    assert [len(u) for u in factors.coordinates] == np.bincount(
        factors.assignments
    ).tolist()


def test_rows_are_projected_on_the_weighted_subspace_of_their_cluster():
    rng = np.random.default_rng(0)
    matrix, weights = rng.normal(size=(60, 8)), rng.uniform(0.1, 5, 60)
    config = MessiConfig(rank=3, num_clusters=3)
    factors = factorize(matrix, config, weights=weights)
    for c, basis in enumerate(factors.bases):
        own = factors.assignments == c
        expected = reference.fit_subspace(matrix[own], weights[own], 3)
        np.testing.assert_allclose(basis.T @ basis, expected.T @ expected, atol=1e-6)
        np.testing.assert_allclose(factors.coordinates[c], matrix[own] @ basis.T)


@pytest.mark.parametrize("ranks", ["budget", "uniform"])
def test_weights_serve_what_they_weigh(ranks):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(80, 10))
    weights = np.where(np.arange(80) < 20, 10.0, 0.1)
    config = MessiConfig(rate=0.6, num_clusters=2, ranks=ranks)
    plain, weighted = (factorize(matrix, config, weights=w) for w in (None, weights))
    assert error(matrix, weighted, weights) < error(matrix, plain, weights)
    assert error(matrix, plain) < error(matrix, weighted)


def test_unequal_ranks_leave_less_error_than_equal_ones():
    rng = np.random.default_rng(0)
    planes = [rng.normal(size=(50, j)) @ rng.normal(size=(j, 20)) for j in (1, 8)]
    matrix = np.concatenate(planes) + 0.01 * rng.normal(size=(100, 20))
    errors = {
        ranks: error(matrix, factorize(matrix, MessiConfig(0.6, 2, ranks=ranks)))
        for ranks in ("budget", "uniform")
    }
    assert errors["budget"] < 0.1 * errors["uniform"]


def test_shared_clusterings_are_where_the_next_one_starts():
    matrix = np.random.default_rng(0).normal(size=(200, 12))
    known = {}
    with shared_clusterings(known):
        first = factorize(matrix, MessiConfig(0.5, 3))
        ((key, labels),) = known.items()
        assert key.endswith("-3-plain")
        assert (
            len(set(zip(labels.tolist(), first.assignments.tolist(), strict=True))) == 3
        )
        again = factorize(matrix, MessiConfig(0.5, 3, seed=7))
    np.testing.assert_array_equal(first.assignments, again.assignments)
