from itertools import product

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_messi.allocation.budget import RankGains, allocate_numbers, rank_gains
from keras_messi.configs import MessiConfig
from keras_messi.methods.matrix import LayerMatrix


def offer(gains_by_cluster, costs, size):
    """An offer of clusters with strongest directions first, that sums to error 1."""
    total = sum(map(sum, gains_by_cluster))
    return RankGains(
        np.concatenate([np.array(gains) / total for gains in gains_by_cluster]),
        np.repeat(costs, [len(gains) for gains in gains_by_cluster]),
        np.concatenate([np.arange(len(gains)) == 0 for gains in gains_by_cluster]),
        size,
    )


def choices(one):
    """All (numbers, error) that a matrix can be left with: the slow oracle."""
    starts = np.flatnonzero(one.needed).tolist()
    clusters = np.split(np.arange(len(one.gains)), starts[1:])
    kept = product(*(range(1, len(cluster) + 1) for cluster in clusters))
    found = [(one.size, 0.0)]
    for counts in kept:
        pairs = zip(clusters, counts, strict=True)
        taken = np.concatenate([own[:m] for own, m in pairs])
        found.append((one.costs[taken].sum(), 1 - one.gains[taken].sum()))
    return found


def error_of(one, numbers):
    return min(error for cost, error in choices(one) if cost <= numbers)


gains = st.lists(st.floats(0.01, 1), min_size=1, max_size=4).map(
    lambda values: sorted(values, reverse=True)
)
offers = st.builds(
    lambda clusters, costs: offer(
        clusters, costs[: len(clusters)], 3 * max(costs) * len(clusters)
    ),
    st.lists(gains, min_size=1, max_size=3),
    st.lists(st.integers(5, 30), min_size=3, max_size=3),
)


@given(st.lists(offers, min_size=1, max_size=3), st.floats(0.05, 1))
def test_no_other_division_of_the_numbers_spent_leaves_less_error(found, share):
    named = {f"{i}": one for i, one in enumerate(found)}
    kept = int(share * sum(one.size for one in found))
    least = sum(int(one.costs[one.needed].sum()) for one in found)
    if kept < least:
        with pytest.raises(ValueError, match=f"at least {least} numbers"):
            allocate_numbers(named, kept)
        return
    numbers = allocate_numbers(named, kept)
    spent = sum(numbers.values())
    assert spent <= kept
    error = sum(error_of(one, numbers[name]) for name, one in named.items())
    for others in product(*map(choices, found)):
        if sum(cost for cost, _ in others) <= spent:
            assert error <= sum(e for _, e in others) + 1e-9


def dense(kernel, weights=None):
    """The matrix of a Dense layer."""
    return LayerMatrix(keras.layers.Dense(kernel.shape[1]), kernel, weights)


def test_numbers_go_where_they_do_most():
    rng = np.random.default_rng(0)
    low = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 40))
    config = MessiConfig(0.5, num_clusters=2, scope="model")
    found = {
        "low": rank_gains(dense(low), config),
        "full": rank_gains(dense(rng.normal(size=(60, 40))), config),
    }
    numbers = allocate_numbers(found, 2400)
    assert 4 * (60 + 40) <= numbers["low"] < 700
    assert numbers["full"] > 1000


def test_offers_count_rows_by_their_weights():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(30, 10))
    weights = np.repeat([1.0, 0.0], [5, 25])
    config = MessiConfig(0.5, num_clusters=1, scope="model")
    found = rank_gains(dense(matrix, weights), config)
    assert found.gains[:5].sum() == pytest.approx(1)
    assert found.gains.sum() == pytest.approx(1)
    assert found.costs.tolist() == [40] * 10
