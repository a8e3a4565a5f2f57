"""The number of threads, and how much is read at once, never change a result."""

from functools import cache

import numpy as np
import pytest
import sklearn
from threadpoolctl import threadpool_limits

from kprojclust import KSubspaces, make_subspaces
from kprojclust._parallel.threads import own_threads, parallel_map

# Enough numbers for several threads: many rows that race, and fewer wide ones.
SHAPES = {"long": (30_000, 24, 4, 3), "wide": (6000, 96, 3, 10)}
OPTIONS = {
    "squared": {},
    "l1": {"loss": "l1"},
    "affine": {"affine": True},
    "budget": {"max_parameters": 100_000},
}


@cache
def rows_of(shape):
    n, d, k, j = SHAPES[shape]
    X, _, _ = make_subspaces(
        n, d, n_clusters=k, n_components=j, noise=0.3, random_state=0
    )
    return X.astype(np.float32), k, j


def assert_bitwise_equal(model, other):
    assert np.array_equal(model.labels_, other.labels_)
    assert model.loss_curve_ == other.loss_curve_
    for basis, other_basis in zip(model.components_, other.components_, strict=True):
        assert np.array_equal(basis, other_basis)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_fits_are_bitwise_equal_on_one_thread_and_on_two(shape, options):
    X, k, j = rows_of(shape)
    models = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            model = KSubspaces(k, j, n_init=2, random_state=0, **options)
            models.append(model.fit(X))
    assert_bitwise_equal(*models)


def test_default_fits_are_bitwise_equal_on_one_thread_and_on_two():
    X, k, j = rows_of("long")
    models = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            models.append(KSubspaces(k, j, random_state=0).fit(X))
    assert_bitwise_equal(*models)


def test_distances_are_bitwise_equal_on_one_thread_and_on_two():
    X, k, j = rows_of("wide")
    model = KSubspaces(k, j, init=np.arange(len(X)) % k, tol=0.1).fit(X)
    with threadpool_limits(1):
        one = model.transform(X)
    with threadpool_limits(2):
        assert np.array_equal(model.transform(X), one)


def test_fits_do_not_depend_on_the_working_memory():
    X, k, j = rows_of("long")
    whole = KSubspaces(k, j, n_init=2, random_state=0).fit(X)
    for working_memory in (1, 16):
        with sklearn.config_context(working_memory=working_memory):
            parts = KSubspaces(k, j, n_init=2, random_state=0).fit(X)
        assert_bitwise_equal(whole, parts)


def test_parallel_map_keeps_the_order_and_raises():
    with own_threads(10**9):
        assert parallel_map(lambda a, b: a - b, range(9), [1] * 9) == list(range(-1, 8))
        with pytest.raises(ZeroDivisionError):
            parallel_map(lambda a: 1 / a, range(2))


def test_threads_end_with_the_work_and_nest():
    with own_threads(10**9), own_threads(10**9):
        assert parallel_map(abs, [-1, 2]) == [1, 2]
    assert parallel_map(abs, [-1, 2]) == [1, 2]
