"""Curves of what compression costs."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_messi.files import replaced_atomically


def save_accuracy_curves(
    rows: Iterable, baseline: float, path: str | os.PathLike[str], title: str
) -> None:
    """Draw the accuracy lost against the rate, before and after fine-tuning.

    Args:
        rows: Objects with `num_clusters`, `rate`, `accuracy_before` and
            `accuracy_after`, such as `keras_messi.cli.demo.Trial`.
        baseline: Accuracy of the uncompressed model, in [0, 1].
        path: The picture to write; its suffix chooses the format.
        title: Heading of the picture.
    """
    rows = sorted(rows, key=lambda row: row.rate)
    figure = _figure(10, 4.2)
    panels = figure.subplots(1, 2)
    for axes, when in zip(panels, ("before", "after"), strict=True):
        for k in sorted({row.num_clusters for row in rows}):
            chosen = [row for row in rows if row.num_clusters == k]
            axes.plot(
                [100 * row.rate for row in chosen],
                [100 * (baseline - getattr(row, f"accuracy_{when}")) for row in chosen],
                label="k = 1 (SVD)" if k == 1 else f"k = {k}",
                color="black" if k == 1 else f"C{k - 2}",
                linestyle="--" if k == 1 else "-",
                marker="o",
            )
        axes.set_title(f"{when} fine-tuning")
        axes.set_xlabel(_REMOVED)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy lost (points)")
    panels[1].legend(title="subspaces")
    figure.suptitle(title)
    _save(figure, path)


def save_search_curve(
    trials: Iterable,
    path: str | os.PathLike[str],
    title: str,
    score_name: str = "score",
) -> None:
    """Draw the score against the rate, of the best k and of one subspace.

    Args:
        trials: Those of a `keras_messi.SearchResult`; failed ones are left out.
        path: The picture to write; its suffix chooses the format.
        title: Heading of the picture.
        score_name: What the scores are.
    """
    rows = [trial for trial in trials if trial.score is not None]
    rows.sort(key=lambda row: (row.rate, row.score, -row.num_clusters))
    best = list({row.rate: row for row in rows}.values())  # the last one of each rate
    svd = [row for row in rows if row.num_clusters == 1]
    figure = _figure(6.4, 4.4)
    axes = figure.subplots()
    _draw_scores(axes, svd, "k = 1 (SVD)", color="black", linestyle="--")
    _draw_scores(axes, best, "best k", color="C0")
    for row in best:
        axes.annotate(
            f"k = {row.num_clusters}",
            (100 * row.rate, row.score),
            xytext=(5, 6),
            textcoords="offset points",
        )
    axes.margins(x=0.1, y=0.12)
    axes.set_xlabel(_REMOVED)
    axes.set_ylabel(score_name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.suptitle(title)
    _save(figure, path)


def save_allocation(report: Any, path: str | os.PathLike[str], title: str) -> None:
    """Draw the bytes of each replaced layer before and after, and how it is stored.

    Args:
        report: A `keras_messi.CompressionReport`.
        path: The picture to write; its suffix chooses the format.
        title: Heading of the picture.
    """
    rows = report.replaced[::-1]
    places = range(len(rows))
    figure = _figure(8, 1.5 + 0.22 * len(rows))
    axes = figure.subplots()
    axes.barh(places, [x.bytes_before for x in rows], color="0.85", label="before")
    axes.barh(places, [x.bytes_after for x in rows], color="C0", label="after")
    for place, row in zip(places, rows, strict=True):
        axes.text(row.bytes_before, place, f" {row.form}", va="center", fontsize=7)
    axes.set_yticks(places, [row.path for row in rows], fontsize=7)
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.01)
    axes.set_xlabel("bytes")
    axes.legend(loc="lower right")
    figure.suptitle(title)
    _save(figure, path)


_REMOVED = "numbers removed from the compressed layers (%)"


def _figure(width: float, height: float) -> Any:
    """A figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    with replaced_atomically(Path(path)) as partial:
        figure.savefig(partial, dpi=150)


def _draw_scores(axes: Any, rows: list, label: str, **style: str) -> None:
    x, y = [100 * row.rate for row in rows], [row.score for row in rows]
    axes.plot(x, y, label=label, marker="o", **style)
