"""Curves of the points that a network loses, against the rate."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from lenet_trials import Result, Trial
from matplotlib.figure import Figure

Results = Mapping[Trial, Result]
WHEN = ("before", "after")


def points_lost(
    results: Results, baseline: float, when: str, **wanted: Any
) -> np.ndarray:
    """Points lost before or after fine-tuning by the trials with such fields."""
    found = [getattr(x, f"accuracy_{when}") for x in with_fields(results, **wanted)]
    return 100 * (baseline - np.array(found))


def with_fields(results: Results, **wanted: Any) -> list[Result]:
    """What came of the trials with such fields."""
    return [
        result
        for trial, result in results.items()
        if all(getattr(trial, name) == value for name, value in wanted.items())
    ]


def style_of(method: str, num_clusters: int) -> dict[str, Any]:
    """A method has its line, a number of clusters its colour."""
    match method:
        case "SVD":
            return {"color": "black", "linestyle": "--"}
        case "ours" | "ours, calibrated":
            return {"color": "C3", "linewidth": 2.5}
        case "k-means":
            return {"color": f"C{(0, 1, 2, 4)[num_clusters - 2]}", "linestyle": ":"}
    return {"color": f"C{(0, 1, 2, 4)[num_clusters - 2]}"}


def save_curves(
    results: Results,
    kinds: list[tuple[str, int]],
    baseline: float,
    path: Path,
    title: str = "LeNet-300-100 on MNIST",
) -> None:
    """Draw the curves of methods with numbers of clusters, mean and spread.

    A method goes by its name alone with one cluster, and with 0, which is any number.
    """
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    rates = sorted({trial.rate for trial in results})
    for (axes, when), (method, k) in product(zip(panels, WHEN, strict=True), kinds):
        lost = [
            points_lost(
                results, baseline, when, method=method, num_clusters=k, rate=rate
            )
            for rate in rates
        ]
        axes.errorbar(
            range(len(rates)),
            [np.mean(points) for points in lost],
            [np.std(points) for points in lost],
            label=method if k < 2 else f"{method}, k = {k}",
            marker="o",
            markersize=4,
            **style_of(method, k),
        )
    for axes, when in zip(panels, WHEN, strict=True):
        axes.set_title(f"{when} fine-tuning")
        axes.set_xlabel("numbers removed from the hidden layers (%)")
        axes.set_xticks(range(len(rates)), [f"{100 * rate:g}" for rate in rates])
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy lost (points)")
    panels[1].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
