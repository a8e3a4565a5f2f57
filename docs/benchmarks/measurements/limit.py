"""Where the time of an iteration goes, and how near it is to that of its products."""

from functools import partial

import numpy as np

from competitors.plain_loop import directional_labels
from kprojclust._engine.assignment import Criterion, nearest_flats
from kprojclust._engine.em import run_em
from kprojclust._engine.moments import moments_by_cluster
from kprojclust._engine.problem import Problem
from kprojclust._engine.scatter import Scatter
from kprojclust._parallel.threads import own_threads
from kprojclust._rows.blocks import LocalRows
from kprojclust.losses import SquaredLoss
from measurements import Row
from measurements.data import decaying_union, planted, scaled, word_table
from measurements.messi import K, rank
from measurements.timing import timed

TITLE = "The first iteration over all rows, and its parts, against its matrix products"
REPEATS = 7


def rows(record, scale):
    """The share of the bound that the first iteration reaches; its parts."""
    words, union = word_table(scale), decaying_union(scale)
    many = planted(scaled(1_000_000, scale), 64, 10, 8)
    for data, k, j in ((words, K, rank(words)), (union, K, rank(union)), (many, 10, 8)):
        found = record(f"limit/{data.name}", _measure, data, k, j)
        least = product_flops(data, k, j) / found["flops_per_second"]
        what = f"{data.name}, k = {k}, j = {j}"
        yield Row(
            what,
            f"{found['iteration']:.3g} s",
            f"{least:.3g} s at {found['flops_per_second'] / 1e9:.0f} Gflop/s",
            f"{100 * least / found['iteration']:.2g} %",
            ">= 50 %",
            ">= 80 %",
        )
        for part in ("distances and labels", "second moments", "eigenvectors"):
            share = 100 * found[part] / found["iteration"]
            yield Row(f"{what}: {part}", f"{found[part]:.3g} s, {share:.2g} %", "", "")


def product_flops(data, k, j):
    """Of a full iteration: distances to k subspaces, and the Gram matrices.

    A distance takes the basis of a subspace or that of its complement, whichever is
    smaller; a Gram matrix is symmetric, so that half of it is enough.
    """
    return 2 * data.n * data.d * k * min(j, data.d - j) + data.n * data.d**2


def _measure(data, k, j):
    X = data.load()
    start = directional_labels(X, k, seed=0)
    weights = np.broadcast_to(np.ones((), X.dtype), len(X))
    rows = LocalRows([X], weights, X.dtype)
    problem = Problem(rows, np.full(k, j), None, SquaredLoss(), 2, False)
    scatter = Scatter(k, X.shape[1], X.dtype, None, constant_weights=True)
    criterion = Criterion(SquaredLoss(), 2, 0.0)
    rate = _product_rate(X, k * j)  # with the threads of BLAS
    with own_threads(X.size):
        run = partial(run_em, problem, start, max_iter=1, tol=0)
        moments = partial(moments_by_cluster, X, weights, start, k, None)
        scatter._add(moments())
        flats = scatter.flats(problem.n_components)
        return {
            "flops_per_second": rate,
            "iteration": _seconds(run),
            "distances and labels": _seconds(
                nearest_flats, X, weights, flats, criterion
            ),
            "second moments": _seconds(moments),
            "eigenvectors": _seconds(_eigenvectors, scatter, moments()),
        }


def _eigenvectors(scatter, moments):
    scatter._add(moments)  # so that no spectrum is at hand
    scatter.spectra()


def _product_rate(X, n_columns):
    """Operations per second of the product of X with that many columns."""
    columns = np.ones((X.shape[1], n_columns), X.dtype)
    out = np.ones((len(X), n_columns), X.dtype)
    seconds = _seconds(np.matmul, X, columns, out)
    return float(2 * X.size * n_columns / seconds)


def _seconds(function, *arguments):
    return float(np.median([timed(function, *arguments)[0] for _ in range(REPEATS)]))
