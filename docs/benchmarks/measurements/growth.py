"""Seconds against the number of rows."""

from functools import partial

import numpy as np

from competitors import ksubspaces, plain_loop, sklearn_kmeans, truncated_svd
from measurements import Row
from measurements.data import planted, scaled
from measurements.timing import fits_in_turn, format_seconds

D, K, J = 64, 10, 8
TITLE = f"Growth with the number of rows: {D} columns, k = {K}, j = {J}"
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
OURS = {
    "KSubspaces": ksubspaces.fit,
    "KSubspaces, one start": partial(ksubspaces.fit, n_init=1),
}
THEIRS = {
    "KMeans, one start": partial(sklearn_kmeans.fit, n_init=1),
    "TruncatedSVD": truncated_svd.fit,
    "plain loop": plain_loop.fit,
}
# On more rows than that each gets one turn, and the plain loop, which is slow, none.
FEW = 100_000


def rows(record, scale):
    """The exponents of the power laws, then every size."""
    curves: dict[str, dict] = {name: {} for name in OURS | THEIRS}
    for size in SIZES:
        for name in curves:
            if size <= FEW or name != "plain loop":
                n = scaled(size, scale)
                curves[name][n] = _seconds(record, name, n, 3 if size <= FEW else 1)
    for name in OURS:
        what = f"exponent of n: {name}"
        yield Row(what, f"{exponent(curves[name]):.3f}", "", "", "<= 1.05", "<= 1.0")
    for name in THEIRS:
        yield Row(f"exponent of n: {name}", "", f"{exponent(curves[name]):.3f}", "")
    for n, seconds in curves["KSubspaces"].items():
        yield Row(f"{n} rows: defaults", format_seconds(seconds), "", "")
    for name in THEIRS:
        for n, seconds in curves[name].items():
            ours = curves["KSubspaces, one start"][n]
            yield _row(f"{n} rows: one start against {name}", ours, seconds)


def exponent(curve: dict[int, list[float]]) -> float:
    """Slope of log seconds against log n."""
    seconds = [np.median(values) for values in curve.values()]
    return float(np.polyfit(np.log(list(curve)), np.log(seconds), 1)[0])


def _seconds(record, name, n, n_turns):
    fits = {name: (OURS | THEIRS)[name]}
    data = planted(n, D, K, J)
    key = f"growth/{name}/{n}"
    return record(key, fits_in_turn, fits, data, K, J, range(n_turns))[name]["seconds"]


def _row(what, ours, theirs):
    ratio = np.median(ours) / np.median(theirs)
    cells = format_seconds(ours), format_seconds(theirs)
    return Row(what, *cells, f"{ratio:.3g}x as long")
