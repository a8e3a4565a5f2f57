"""Rows that are larger than memory need be: a memory map."""

from functools import partial

import numpy as np

from competitors import ksubspaces
from measurements import Row
from measurements.data import planted_file, scaled
from measurements.processes import AnonymousPeak, in_fresh_process
from measurements.timing import timed

D, K, J = 64, 10, 8
TITLE = f"Rows on disk (ours) against in memory (theirs): {D} columns, k = {K}, j = {J}"
FIT = partial(ksubspaces.fit, n_init=1)


def rows(record, scale):
    """Peak anonymous memory of the process, and rows times iterations a second."""
    n = scaled(31_250_000, scale)
    found = record("memmap", _measure, n)
    mapped, loaded = found["mapped"], found["loaded"]
    peaks = [f"{run['anonymous_mb'] / 1e3:.3g} GB" for run in (mapped, loaded)]
    what = f"{n} x {D}, {4 * n * D / 1e9:.3g} GB"
    yield Row(f"{what}: peak anonymous memory", *peaks, "", "<= 1.5 GB", "<= 0.5 GB")
    ours, theirs = _speed(n, mapped), _speed(n, loaded)
    yield Row(
        f"{what}: speed",
        _cell(ours, mapped),
        _cell(theirs, loaded),
        f"{100 * ours / theirs:.2g} % as fast",
        "completes",
        ">= 70 %",
    )


def _measure(n):
    with planted_file(n, D, K, J) as path:
        return {
            "mapped": in_fresh_process(_fit_mapped, path),
            "loaded": in_fresh_process(_fit_loaded, path),
        }


def _fit_mapped(path):
    return _fit(np.load(path, mmap_mode="r"))


def _fit_loaded(path):
    return _fit(np.load(path))


def _fit(X):
    with AnonymousPeak() as peak:
        seconds, found = timed(FIT, X, K, J, 0)
    iterations = len(found.loss_curve)
    return {"seconds": seconds, "iterations": iterations, "anonymous_mb": peak.mb}


def _speed(n, run):
    """Rows times iterations a second."""
    return n * run["iterations"] / run["seconds"]


def _cell(speed, run):
    return (
        f"{speed / 1e6:.3g} million rows/s, {run['iterations']} iterations in "
        f"{run['seconds']:.3g} s"
    )
