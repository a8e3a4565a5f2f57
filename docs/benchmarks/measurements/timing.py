"""Time of fits, side by side."""

import time
from collections.abc import Callable, Iterable

import numpy as np

from competitors import Clustering, energy
from measurements import Row
from measurements.data import Data


def fits_in_turn(
    fits: dict[str, Callable[..., Clustering]],
    data: Data,
    k: int,
    j: int,
    seeds: Iterable[int],
) -> dict[str, dict[str, list]]:
    """Every competitor fitted with every seed, taking turns.

    Of each fit the seconds, the iterations, and the error: the objective over the sum
    of squares of the data.
    """
    X = data.load()
    total = energy(X)
    found = {name: {"seconds": [], "error": [], "iterations": []} for name in fits}
    for seed in seeds:
        for name, fit in fits.items():
            seconds, clustering = timed(fit, X, k, j, seed)
            found[name]["seconds"].append(seconds)
            found[name]["error"].append(clustering.objective / total)
            found[name]["iterations"].append(len(clustering.loss_curve))
    return found


def timed(function, *arguments):
    """Seconds that a call takes, and what it returns."""
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def format_seconds(seconds: list[float]) -> str:
    """Median, and the range where there are several."""
    text = f"{np.median(seconds):.3g} s"
    if len(seconds) > 1:
        text += f" ({min(seconds):.3g} - {max(seconds):.3g})"
    return text


def row_of_times(
    what: str, ours: list[float], theirs: list[float], ratio: float, *goals: str
) -> Row:
    """A row of the table that compares seconds; goals are the floor and the aim."""
    times = format_seconds(ours), format_seconds(theirs)
    return Row(what, *times, f"{ratio:.3g}x as long", *goals)


def format_errors(errors: list[float]) -> str:
    """Mean, and the standard deviation where there are several."""
    text = f"{np.mean(errors):.4f}"
    if len(errors) > 1:
        text += f" ± {np.std(errors):.4f}"
    return text


def format_fits(found: dict[str, list]) -> str:
    """Seconds and error."""
    return f"{format_seconds(found['seconds'])}, error {format_errors(found['error'])}"
