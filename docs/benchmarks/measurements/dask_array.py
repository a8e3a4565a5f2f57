"""Two workers of Dask against one."""

from functools import partial

import numpy as np

from competitors import ksubspaces
from measurements import Row
from measurements.data import block_sizes, planted_bases, planted_block, scaled
from measurements.timing import format_seconds, timed

D, K, J = 64, 10, 8
TITLE = f"Two Dask workers (ours) against one (theirs): {D} columns, k = {K}, j = {J}"
FIT = partial(ksubspaces.fit, n_init=1)
REPEATS = 3


def rows(record, scale):
    """Seconds of a fit on rows that lie with the workers, one thread each."""
    n = scaled(2_000_000, scale)
    two, one = (
        record(f"dask/{n_workers} workers", _measure, n, n_workers)["seconds"]
        for n_workers in (2, 1)
    )
    yield Row(
        f"{n} x {D} float32, two workers against one",
        format_seconds(two),
        format_seconds(one),
        f"{np.median(one) / np.median(two):.3g}x",
        ">= 1.6x",
        ">= 1.9x",
    )


def _measure(n, n_workers):
    try:
        from dask.distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'This measurement needs Dask: pip install "dask[array,distributed]"'
        ) from error
    cluster = LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
    )
    with cluster, Client(cluster) as client:
        X = _persisted(client, n)
        FIT(X, K, J, 0)
        return {"seconds": [timed(FIT, X, K, J, 0)[0] for _ in range(REPEATS)]}


def _persisted(client, n):
    """Planted rows, made by the workers and kept there."""
    import dask.array as da
    from dask import delayed
    from dask.distributed import wait

    bases = planted_bases(D, K, J)
    blocks = [
        da.from_delayed(delayed(planted_block)(bases, size, seed), (size, D), "f4")
        for seed, size in enumerate(block_sizes(n))
    ]
    X = client.persist(da.concatenate(blocks))
    wait(X)
    return X
