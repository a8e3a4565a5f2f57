"""An iteration against that of a plain loop."""

from functools import partial

import numpy as np

from competitors import ksubspaces, plain_loop
from measurements import Row
from measurements.data import word_table
from measurements.messi import K, rank
from measurements.timing import fits_in_turn, format_errors, format_seconds

TITLE = "An iteration, from the same labels: whole fit over number of iterations"
REPEATS = 3


def rows(record, scale):
    """Mean seconds of an iteration, and where both end."""
    data = word_table(scale)
    found = record("iteration", _measure, data, rank(data))
    ours, plain = (_per_iteration(found[name]) for name in ("KSubspaces", "plain loop"))
    yield Row(
        f"{data.name}, k = {K}, j = {rank(data)}, against the plain loop",
        _cell(ours, found["KSubspaces"]),
        _cell(plain, found["plain loop"]),
        f"{np.median(plain) / np.median(ours):.3g}x",
        ">= 6x",
        ">= 20x",
    )
    ours, plain = (found[name]["seconds"] for name in ("KSubspaces", "plain loop"))
    yield Row(
        f"{data.name}: the whole fits",
        format_seconds(ours),
        format_seconds(plain),
        f"{np.median(plain) / np.median(ours):.3g}x",
    )


def _measure(data, j):
    start = plain_loop.directional_labels(data.load(), K, seed=0)
    fits = {
        "KSubspaces": partial(ksubspaces.fit, init=start),
        "plain loop": lambda X, k, j, seed: plain_loop.fit_from(X, start, k, j),
    }
    return fits_in_turn(fits, data, K, j, [0] * REPEATS)


def _per_iteration(found):
    return list(np.divide(found["seconds"], found["iterations"]))


def _cell(seconds, found):
    return (
        f"{format_seconds(seconds)}, {found['iterations'][0]} iterations, "
        f"error {format_errors(found['error'][:1])}"
    )
