"""Against the algorithm of the MESSI paper, and on its words against everyone."""

from functools import partial

import numpy as np

from competitors import (
    ksubspaces,
    messi_reference,
    plain_loop,
    sklearn_kmeans,
    subspace_clustering_jl,
    truncated_svd,
)
from measurements import Row
from measurements.data import Data, decaying_union, word_table
from measurements.timing import fits_in_turn, format_fits

TITLE = "Whole fits against the MESSI reference, k = 5, j = 53 % of the dimensions"
K = 5
SEEDS = range(5)
MAX_ITER = 100
OTHERS = {
    "plain loop from k-means": plain_loop.fit,
    "SubspaceClustering.jl": subspace_clustering_jl.fit,
    "KMeans": sklearn_kmeans.fit,
    "TruncatedSVD, as many numbers": truncated_svd.fit,
}


def rows(record, scale):
    """Until below the reference's objective; whole fits; the other competitors."""
    words = word_table(scale)
    for data, limit in ((words, ", error <= .1500"), (decaying_union(scale), "")):
        arguments = (data, K, rank(data))
        reference = _fits(record, messi_reference.fit, "MESSI reference", *arguments)
        yield _until_below(record, reference, *arguments)
        ours = _fits(record, ksubspaces.fit, "KSubspaces", *arguments, SEEDS)
        what = f"{data.name}, j = {rank(data)}: whole fit"
        yield _row(what, ours, reference, f">= 60x{limit}", ">= 150x")
    ours = _fits(record, ksubspaces.fit, "KSubspaces", words, K, rank(words), SEEDS)
    for name, fit in OTHERS.items():
        theirs = _fits(record, fit, name, words, K, rank(words))
        yield _row(f"{words.name}: {name}", ours, theirs)


def rank(data: Data) -> int:
    """53 % of the dimensions: 205 of 384, 409 of 768."""
    return round(0.533 * data.d)


def _fits(record, fit, name, data, k, j, seeds=(0,)):
    key = f"messi/{data.name}/{name}"
    return record(key, fits_in_turn, {name: fit}, data, k, j, seeds)[name]


def _until_below(record, reference, data, k, j):
    """The fit with the fewest iterations that ends below the reference's objective."""
    what = f"{data.name}, j = {j}: until below the reference's objective"
    for max_iter in range(1, MAX_ITER + 1):
        fit = partial(ksubspaces.fit, max_iter=max_iter)
        name = f"KSubspaces, max_iter = {max_iter}"
        ours = _fits(record, fit, name, data, k, j)
        if ours["error"][0] < reference["error"][0]:
            repeated = _fits(record, fit, f"{name}, again", data, k, j, [0] * 5)
            what = f"{what}, max_iter = {max_iter}"
            return _row(what, repeated, reference, ">= 100x", ">= 400x")
    theirs = format_fits(reference)
    return Row(what, "not reached", theirs, "", ">= 100x", ">= 400x")


def _row(what, ours, theirs, floor="", aim=""):
    ratio = np.median(theirs["seconds"]) / np.median(ours["seconds"])
    return Row(
        what, format_fits(ours), format_fits(theirs), f"{ratio:.3g}x", floor, aim
    )
