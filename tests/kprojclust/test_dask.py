"""Rows of Dask arrays, on threads and on worker processes."""

import os
import signal
from contextlib import contextmanager
from functools import cache

import dask
import dask.array as da
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster
from numpy.testing import assert_allclose

from kprojclust import KSubspaces, make_subspaces
from kprojclust._rows.dask import DaskRows

N = 12_000
BLOCKS = (5000, 3000, 4000)


@pytest.fixture(scope="module")
def X():
    """Enough rows for a race, in overlapping clusters."""
    X, _, _ = make_subspaces(
        N, 12, n_clusters=4, n_components=3, noise=0.3, random_state=0
    )
    return X


@pytest.fixture(autouse=True)
def threads():
    with dask.config.set(scheduler="threads"):
        yield


def blocks_of(X, chunks=BLOCKS):
    return da.from_array(X, chunks=(chunks, -1))


def fit(X, sample_weight=None, **options):
    options = {"n_init": 2, "random_state": 0, **options}
    return KSubspaces(4, 3, **options).fit(X, sample_weight=sample_weight)


@pytest.fixture(scope="module")
def in_memory(X):
    """Fits of the rows in memory, by dtype and name of the options; each made once."""
    return cache(lambda dtype, name: fit(X.astype(dtype), **OPTIONS[name]))


@pytest.fixture(scope="module")
def in_blocks(X):
    with dask.config.set(scheduler="threads"):
        return fit(blocks_of(X))


@pytest.fixture(scope="module")
def model(X):
    """From one start, for what follows a fit."""
    return fit(X, n_init=1)


def assert_same(model, other, rtol=1e-5):
    assert_allclose(model.inertia_, other.inertia_, rtol=rtol)
    labels = [np.asarray(m.labels_) for m in (model, other)]
    assert np.mean(labels[0] == labels[1]) > 0.999
    assert model.means_.dtype == other.means_.dtype
    projections = [b.T @ b for b in model.components_]
    others = [b.T @ b for b in other.components_]
    assert_allclose(projections, others, atol=100 * rtol)


OPTIONS = {
    "squared": {},
    "affine": {"affine": True},
    "l1": {"loss": "l1"},
    "huber": {"loss": "huber"},
    "budget": {"max_parameters": 40_000},
    "labels": {"init": np.arange(N) % 4},
    "bases": {"init": [np.eye(3, 12, 3 * c) for c in range(4)]},
    "relocations": {"n_relocations": 2},
    "labels and relocations": {"init": np.arange(N) % 4, "n_relocations": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dask_arrays_are_fitted_as_arrays_in_memory(X, in_memory, name, dtype):
    in_blocks = fit(blocks_of(X.astype(dtype)), **OPTIONS[name])
    assert_same(in_blocks, in_memory(dtype, name))


@pytest.mark.parametrize("options", [{}, {"loss": "huber"}], ids=str)
@pytest.mark.parametrize("lazy", [False, True])
def test_weights_are_arrays_of_either_kind(X, lazy, options):
    weight = np.random.default_rng(0).uniform(0, 2, N)
    given = da.from_array(weight, chunks=1000) if lazy else weight
    in_blocks = fit(blocks_of(X), given, **options)
    assert_same(in_blocks, fit(X, weight, **options))


@pytest.mark.parametrize("options", [{}, {"p": 1}, {"n_relocations": 2}], ids=str)
def test_little_data_in_blocks_is_fitted_as_in_memory(X, options):
    in_blocks = fit(blocks_of(X[:300], (200, 100)), **options)
    assert_same(in_blocks, fit(X[:300], **options), rtol=1e-12)
    assert in_blocks.labels_.chunks == ((200, 100),)


def test_fewer_rows_than_second_moments_in_blocks(X):
    in_blocks = fit(blocks_of(X[:40], (30, 10)))
    assert_same(in_blocks, fit(X[:40]), rtol=1e-12)
    assert in_blocks.labels_.chunks == ((30, 10),)


@pytest.mark.parametrize("chunks", [(N,), (1, N - 1), (0, 4000, 0, 8000), (500,) * 24])
def test_the_blocks_hardly_matter(X, in_blocks, chunks):
    assert_same(fit(blocks_of(X, chunks)), in_blocks, rtol=1e-9)


def test_whole_numbers_are_fitted_in_float64(X):
    whole = np.round(100 * X).astype(np.int16)
    assert_same(fit(blocks_of(whole)), fit(whole.astype(np.float64)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_for_rows_are_lazy_arrays_with_the_blocks_of_the_rows(X, dtype):
    rows = blocks_of(X.astype(dtype))
    model = fit(rows)
    for found, of_dtype, chunks in [
        (model.labels_, np.int32, (BLOCKS,)),
        (model.predict(rows), np.int32, (BLOCKS,)),
        (model.transform(rows), dtype, (BLOCKS, (4,))),
        (model.score_samples(rows), np.float64, (BLOCKS,)),
    ]:
        assert isinstance(found, da.Array)
        assert (found.dtype, found.chunks) == (of_dtype, chunks)
        assert (found.compute().dtype, found.compute().shape) == (of_dtype, found.shape)


def test_results_for_rows_are_those_in_memory(X, model):
    rows = blocks_of(X)
    assert np.array_equal(model.predict(rows).compute(), model.labels_)
    for method in ("transform", "score_samples", "score", "project"):
        in_blocks = np.asarray(getattr(model, method)(rows))
        assert_allclose(in_blocks, getattr(model, method)(X), rtol=1e-10, atol=1e-12)


def test_nothing_is_computed_before_it_is_asked_for(X, model):
    loaded = []

    def load(block):
        loaded.append(len(block))
        return block

    rows = blocks_of(X).map_blocks(load, dtype=X.dtype, meta=X[:0])
    distances = model.transform(rows)
    assert not loaded
    distances[: BLOCKS[0]].compute()
    assert loaded == [BLOCKS[0]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda X: blocks_of(X).rechunk((3000, 6)), r"X.rechunk\({1: -1}\) joins them"),
        (lambda X: blocks_of(X)[blocks_of(X)[:, 0] > 0], "X.compute_chunk_sizes()"),
        (lambda X: blocks_of(X)[:, 0], "2D Dask array. Got 1 dim"),
        (lambda X: blocks_of(X).astype(complex), "real numbers. Got dtype complex"),
        (lambda X: blocks_of(X)[:2], "n_samples=2 must not be below n_clusters=4"),
    ],
    ids=["columns", "unknown", "1-D", "complex", "few"],
)
def test_bad_arrays_say_what_to_do(X, bad, message):
    with pytest.raises(ValueError, match=message):
        fit(bad(X))


def test_other_columns_than_in_fit_are_refused(X, model):
    with pytest.raises(ValueError, match="X has 5 features, but KSubspaces"):
        model.predict(blocks_of(X)[:, :5])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_of_a_late_block_that_is_not_finite_is_named(X, model, value):
    bad = X.copy()
    bad[[11_000, 11_500], 2] = value
    for method in (fit, lambda X: model.predict(X).compute(), model.score):
        with pytest.raises(ValueError, match="NaN or infinity in row 11000"):
            method(blocks_of(bad))


def test_blocks_of_known_size_after_a_filter_are_fitted(X):
    rows = blocks_of(X)
    kept = rows[rows[:, 0] > 0].compute_chunk_sizes()
    assert_same(fit(kept), fit(X[X[:, 0] > 0]))


# Worker processes


@contextmanager
def two_workers():
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            scheduler_port=0,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client():
    with two_workers() as client:
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squared", "l1", "affine"])
def test_worker_processes_find_what_is_found_in_memory(X, in_memory, client, name):
    with client.as_current(), dask.config.set(scheduler=client):
        model = fit(blocks_of(X), **OPTIONS[name])
        assert_same(model, in_memory(np.float64, name))
        labels = model.predict(blocks_of(X)).compute()
        assert np.array_equal(labels, model.labels_.compute())


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(X, monkeypatch):
    options = {"init": np.arange(N) % 4}
    undisturbed = fit(blocks_of(X), **options)
    passes, map_reduce = [], DaskRows.map_reduce
    with two_workers() as client, dask.config.set(scheduler=client):
        # It takes the state of its rows along.
        doomed = next(iter(client.run(os.getpid).values()))

        def map_reduce_without_it(rows, *arguments):
            passes.append(arguments)
            if len(passes) == 5:
                os.kill(doomed, signal.SIGKILL)
            return map_reduce(rows, *arguments)

        monkeypatch.setattr(DaskRows, "map_reduce", map_reduce_without_it)
        model = fit(blocks_of(X), **options)
        assert len(passes) > 8
        assert_same(model, undisturbed)
