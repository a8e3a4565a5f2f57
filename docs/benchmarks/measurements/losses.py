"""The l_1 loss against the squared one."""

from functools import partial

import numpy as np

from competitors import ksubspaces
from measurements.data import planted, scaled, word_table
from measurements.timing import fits_in_turn, row_of_times

TITLE = "Whole fits with the l_1 loss (ours) against the squared loss (theirs)"
FITS = {name: partial(ksubspaces.fit, loss=name) for name in ("l1", "squared")}
SEEDS = range(5)


def rows(record, scale):
    """The median ratio over seeds."""
    words, many = word_table(scale), planted(scaled(100_000, scale), 64, 10, 8)
    for data, k, j in ((words, 5, words.d // 3), (many, 10, 8)):
        name = f"losses/{data.name}"
        found = record(name, fits_in_turn, FITS, data, k, j, SEEDS)
        l1, squared = (found[loss]["seconds"] for loss in FITS)
        what = f"{data.name}, k = {k}, j = {j}: l_1 against squared"
        ratio = float(np.median(np.divide(l1, squared)))
        yield row_of_times(what, l1, squared, ratio, "<= 3x", "<= 1.5x")
