"""Pictures of the benchmark of deployment: size against score, and against time."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from deployment_rows import UNCOMPRESSED, Result, Results, Trial
from matplotlib.axes import Axes
from matplotlib.figure import Figure

NETWORKS = ("MiniLM", "LeNet-300-100")  # those that have a score
MARKERS = {"ONNX": "o", "LiteRT": "s"}


class Picture(NamedTuple):
    """What stands up in a picture, and what the picture says."""

    label: str
    value: Callable[[Result], float]
    sign: int  # 1 if more is better
    says: str

    def draw(self, results: Results, path: Path) -> None:
        """Draw a panel for each network."""
        figure = Figure(figsize=(11, 7.5), layout="constrained")
        shown = [x for x in results if x.network in NETWORKS and is_shown(x)]
        palette = matplotlib.colormaps["tab20"].colors
        colours = dict(zip(dict.fromkeys(map(name_of, shown)), palette, strict=False))
        panels = figure.subplots(1, len(NETWORKS))
        for axes, network in zip(panels, NETWORKS, strict=True):
            axes.set(title=network, xscale="log", xlabel="file, MB", ylabel=self.label)
            axes.grid(which="both", alpha=0.3)
            axes.xaxis.set_major_formatter("{x:g}")
            own = {x: results[x] for x in shown if x.network == network}
            self._draw_files(own, axes, colours)
        figure.savefig(path, dpi=110)

    def _draw_files(
        self, results: Results, axes: Axes, colours: dict[str, Any]
    ) -> None:
        """A point for each file, in the colour of what was exported."""
        named: set[str] = set()
        for trial, found in results.items():
            name = name_of(trial)
            face = colours[name] if is_ours(trial) else "none"
            style = {"color": colours[name], "mfc": face, "ms": 8, "mew": 1.8}
            point = found.file_bytes / 1e6, self.value(found)
            axes.plot(*point, MARKERS[runtime_of(trial)], **style)
            if name not in named:
                axes.plot([], [], "D", label=name, **style)
            named.add(name)
        for runtime, marker in MARKERS.items():
            axes.plot([], [], marker, color="black", ms=8, label=runtime)
        points = [(x.file_bytes / 1e6, self.value(x)) for x in results.values()]
        axes.plot(*zip(*front(points, self.sign), strict=True), "k:", lw=1, zorder=0)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)


def front(
    points: Iterable[tuple[float, float]], sign: int
) -> list[tuple[float, float]]:
    """Points that no smaller one is as good as, from the smallest on."""
    best: list[tuple[float, float]] = []
    for size, value in sorted(points, key=lambda x: (x[0], -sign * x[1])):
        if not best or sign * value > sign * best[-1][1]:
            best.append((size, value))
    return best


def is_shown(trial: Trial) -> bool:
    """Whether a file is drawn: not if it is another way to run the same."""
    return "," not in trial.kind


def runtime_of(trial: Trial) -> str:
    """What runs a file."""
    return "LiteRT" if trial.kind.startswith("LiteRT") else "ONNX"


def is_ours(trial: Trial) -> bool:
    """Whether the network was made smaller here."""
    return trial.form != UNCOMPRESSED and not trial.form.startswith("Keras")


def name_of(trial: Trial) -> str:
    """What a point is called."""
    if trial.form != UNCOMPRESSED:
        return trial.form
    return "float" if trial.kind in MARKERS else trial.kind


PICTURES = {
    "deployment_score.png": Picture(
        "score",
        lambda x: x.score,
        1,
        "Size of a file against the score of what it runs",
    ),
    "deployment_time.png": Picture(
        "time of a batch of 32, one thread / that of the float file",
        lambda x: x.ratio_32,
        -1,
        "Size of a file against time; filled is ours, and the dotted line the front",
    ),
}
