"""Few rows: against KMeans with as many clusters."""

from functools import partial

import numpy as np

from competitors import ksubspaces, sklearn_kmeans
from measurements.data import planted, scaled
from measurements.timing import fits_in_turn, row_of_times

K, J = 8, 2
TITLE = f"Few rows: KSubspaces with j = {J} against KMeans, k = {K}"
# Name, parameters of ours, parameters of KMeans, floor and aim. A "farthest" start is
# drawn as the "k-means++" of KMeans is.
STARTS = (
    (
        "one such start",
        {"n_init": 1, "init": "farthest"},
        {"n_init": 1},
        "<= 5x",
        "<= 1x",
    ),
    ("ten", {"n_init": 10, "init": "farthest"}, {"n_init": 10}, "<= 5x", "<= 1x"),
    ("defaults: up to ten starts against one", {}, {}, "", ""),
)
REPEATS = 15


def rows(record, scale):
    """Equal numbers of starts, and the defaults of both."""
    for n, d in ((10_000, 10), (1_000, 5)):
        data = planted(scaled(n, scale), d, K, J)
        for name, our_starts, their_starts, floor, aim in STARTS:
            fits = {
                "KSubspaces": partial(ksubspaces.fit, **our_starts),
                "KMeans": partial(sklearn_kmeans.fit, **their_starts),
            }
            key = f"small/{data.name}/{name}"
            found = record(key, fits_in_turn, fits, data, K, J, range(REPEATS))
            ours, theirs = (found[fit]["seconds"] for fit in fits)
            ratio = float(np.median(ours) / np.median(theirs))
            yield row_of_times(f"{data.name}, {name}", ours, theirs, ratio, floor, aim)
