"""Pictures of the measured times."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure


def draw_growth(numbers: dict[str, dict], path: Path) -> None:
    """Median seconds against the number of rows, of each method."""
    curves: dict[str, list] = {}
    for key, found in numbers.items():
        _, method, n = key.split("/")
        point = int(n), np.median(found[method]["seconds"])
        curves.setdefault(method, []).append(point)
    axes = _log_axes("rows", "seconds")
    for method, points in curves.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", label=method)
    _save(axes, path)


def draw_error(numbers: dict[str, dict], path: Path) -> None:
    """Error against seconds on the word table: each competitor, and our way down."""
    axes = _log_axes("seconds", "relative squared error")
    way: list[tuple] = []
    for key, found in numbers.items():
        _, data, name = key.split("/")
        if not data.startswith("MiniLM") or name.endswith("again"):
            continue
        (fits,) = found.values()
        point = np.median(fits["seconds"]), np.mean(fits["error"])
        if "max_iter" in name:
            way.append(point)
        else:
            axes.plot(*point, "o", label=name)
    if way:
        label = "KSubspaces, 1, 2, ... iterations"
        axes.plot(*zip(*sorted(way), strict=True), ".-", label=label)
    _save(axes, path)


class Picture(NamedTuple):
    """A file, and the function that draws the numbers of a measurement into it."""

    file: str
    draw: Callable[[dict[str, dict], Path], None]


PICTURES = {
    "growth": Picture("speed_growth.png", draw_growth),
    "messi": Picture("speed_error.png", draw_error),
}


def _log_axes(x, y):
    axes = Figure(figsize=(7, 5), layout="constrained").subplots()
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.grid(which="both", alpha=0.3)
    return axes


def _save(axes, path):
    axes.legend()
    axes.figure.savefig(path, dpi=150)
