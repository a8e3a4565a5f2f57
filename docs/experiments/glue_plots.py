"""Curves of points lost against the rate, one panel a task."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import glue_losses as gl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLES: dict[gl.Kind, dict[str, Any]] = {
    gl.SVD: {"color": "black", "linestyle": "--"},
    gl.K_MEANS: {"color": "C1", "linestyle": ":"},
    gl.OTHER_COUNTS[0]: {"color": "C9"},
    gl.MESSI: {"color": "C0"},
    gl.OTHER_COUNTS[1]: {"color": "C4"},
    gl.OURS: {"color": "C2", "linewidth": 2.5},
}
ENSEMBLE = {"color": "C3", "linewidth": 2.5, "label": "best on training"}


def save_curves(
    lost: gl.Losses,
    path: Path,
    title: str,
    best: gl.Losses | None = None,
) -> None:
    """Draw each method, and the ensemble if there is one."""
    tasks = list(dict.fromkeys(trial.task for trial in lost))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    size = 3.7 * columns + 1.8, 3.2 * rows
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, task in zip(panels.flat, tasks, strict=False):
        for kind, style in STYLES.items():
            points = {
                r: gl.over_seeds(lost, [task], kind, r) for r in gl.rates_of(lost, task)
            }
            _draw(axes, points, label=str(kind), **style)
        if best:
            _draw(axes, _by_rate(best, task), **ENSEMBLE)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_title(task)
        axes.grid(alpha=0.3)
    for axes in panels.flat[len(tasks) :]:
        axes.axis("off")
    figure.supxlabel("numbers removed from the word table (%)")
    figure.supylabel("points lost")
    figure.legend(
        *panels.flat[0].get_legend_handles_labels(), loc="outside right upper"
    )
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def _by_rate(best: gl.Losses, task: str) -> dict[float, list[float]]:
    points = defaultdict(list)
    for trial, value in sorted(best.items(), key=lambda item: item[0].rate):
        if trial.task == task:
            points[trial.rate].append(value)
    return points


def _draw(axes: Axes, points: dict[float, list[float]], **style: Any) -> None:
    """One curve, with the spread over seeds where there are several."""
    points = {100 * rate: values for rate, values in points.items() if values}
    if len(points) > 1:
        means = [np.mean(values) for values in points.values()]
        spread = [np.std(values) for values in points.values()]
        axes.errorbar(list(points), means, spread, marker="o", markersize=4, **style)
