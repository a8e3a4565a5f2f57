"""Matrices that are wide, square or tall: factors against one decomposition."""

import numpy as np

from keras_messi import MessiConfig
from keras_messi.methods.subspaces.clustering import factorize
from measurements.data import scaled
from measurements.timing import row_of_times, timed

K = 5
TITLE = f"Factors of a matrix as compress makes them, k = {K}, half of its numbers"
# Shape, floor and aim of the time over that of numpy.linalg.svd in float32.
SHAPES = (
    ((768, 3072), "<= 1x", "<= 0.4x"),
    ((768, 768), "<= 1.5x", "<= 0.6x"),
    ((3072, 768), "<= 0.7x", "<= 0.3x"),
)
CONFIG = MessiConfig(rate=0.5, num_clusters=K)
REPEATS = 7


def rows(record, scale):
    """Both in turn, on random matrices whose singular values fall slowly."""
    for (n, d), floor, aim in SHAPES:
        shape = scaled(n, scale), scaled(d, scale)
        found = record(f"wide/{shape[0]} x {shape[1]}", in_turn, *shape)
        ours, theirs = found["factors"], found["svd"]
        ratio = float(np.median(np.divide(ours, theirs)))
        what = f"{shape[0]} x {shape[1]}, against its singular value decomposition"
        yield row_of_times(what, ours, theirs, ratio, floor, aim)


def in_turn(n: int, d: int) -> dict[str, list[float]]:
    """Seconds of each."""
    matrix = decaying(n, d)
    found: dict[str, list[float]] = {"factors": [], "svd": []}
    for _ in range(REPEATS):
        found["factors"].append(timed(factorize, matrix, CONFIG)[0])
        found["svd"].append(timed(np.linalg.svd, matrix, False)[0])
    return found


def decaying(n: int, d: int) -> np.ndarray:
    """Singular values as one over the root of their rank."""
    rng, most = np.random.default_rng(0), min(n, d)
    left, right = rng.standard_normal((n, most)), rng.standard_normal((most, d))
    values = 1 / np.sqrt(1 + np.arange(most))
    return (left * values @ right / np.sqrt(d)).astype(np.float32)
