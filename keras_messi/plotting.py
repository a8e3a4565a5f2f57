"""Curves of what compression costs."""

import os
from collections.abc import Iterable
from pathlib import Path

from keras_messi.saving import replaced_atomically


def save_accuracy_curves(
    rows: Iterable, baseline: float, path: str | os.PathLike[str], title: str
) -> None:
    """Draw the accuracy lost against the rate, before and after fine-tuning.

    Args:
        rows: Objects with `num_clusters`, `rate`, `accuracy_before` and
            `accuracy_after`, such as `keras_messi.demo.Trial`.
        baseline: Accuracy of the uncompressed model, in [0, 1].
        path: The picture to write; its suffix chooses the format.
        title: Heading of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(rows, key=lambda row: row.rate)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
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
        axes.set_xlabel("numbers removed from the compressed layers (%)")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy lost (points)")
    panels[1].legend(title="subspaces")
    figure.suptitle(title)
    with replaced_atomically(Path(path)) as partial:
        figure.savefig(partial, dpi=150)
