"""The paper's experiments on GLUE, with MiniLM: figures 5, 6, 8, 11 to 15, all tables.

    KPROJCLUST_DATA=folder python docs/experiments/glue.py fine-tuned [--seeds N]
    KPROJCLUST_DATA=folder python docs/experiments/glue.py before | ensemble | ...

The word table of the model fine-tuned on each task is compressed. What was fixed
beforehand stands in glue_models.py and glue_trials.py. Rows are written to
glue_before.csv and glue_fine_tuned.csv as they come; a second call goes on where the
first one stopped, and each ends by writing glue.md and its pictures from all rows.
"""

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

from glue_data import TASKS
from glue_page import write_page
from glue_rows import Result, Trial
from glue_trials import Runner
from rows import Rows

HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "keras_messi_glue"


def side_by_side(rate: float) -> list[tuple[str, int, float]]:
    """Method, clusters and rate of what is set side by side at a rate."""
    return [
        ("ours", 5, rate),
        ("SVD", 1, rate),
        ("MESSI", 5, rate),
        ("k-means", 5, rate),
    ]


def methods(tasks: list[str], rates: list[float], seed: int) -> list[Trial]:
    """Figures 5, 6, 12, 14 and table 1; without fine-tuning figures 8, 13 and 15.

    The uncompressed model is fine-tuned, too.
    """
    kinds = [
        ("uncompressed", 1, 0.0),
        *(k for rate in rates for k in side_by_side(rate)),
    ]
    return [Trial(task, *kind, seed=seed) for task, kind in product(tasks, kinds)]


def clusters(tasks: list[str], rates: list[float], seed: int) -> list[Trial]:
    """Figure 11: several k for each rate; the page chooses by the training score."""
    return [
        Trial(task, "SVD" if k == 1 else "MESSI", k, rate, seed=seed)
        for task, rate, k in product(tasks, rates, (1, 3, 5, 10))
    ]


def same_size(tasks: list[str], rates: list[float], seed: int) -> list[Trial]:
    """Table 2: k = 7 and the largest j at which the table doesn't grow."""
    return [Trial(task, "MESSI", 7, 0.0, rank=352, seed=seed) for task in tasks]


def l1(tasks: list[str], rates: list[float], seed: int) -> list[Trial]:
    """Table 3; the ranks are to the width, 384, as the paper's 517 and 348 to 768."""
    return [
        Trial(task, method, k, 0.0, rank=rank, seed=seed)
        for (task, k), rank in product((("MRPC", 5), ("RTE", 10)), (259, 174))
        for method in ("MESSI l_1", "MESSI")
        if task in tasks
    ]


# The trials of an experiment, and whether they are fine-tuned.
EXPERIMENTS: dict[str, tuple[Callable[..., list[Trial]], bool]] = {
    "fine-tuned": (methods, True),
    "before": (methods, False),
    "ensemble": (clusters, True),
    "ensemble-before": (clusters, False),
    "same-size": (same_size, False),
    "l1": (l1, True),
    "l1-before": (l1, False),
}


def main() -> None:
    """Run what is missing of an experiment, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=[*EXPERIMENTS, "page"])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.4])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=CACHE)
    arguments = parser.parse_args()
    before_rows, after_rows = (
        Rows(HERE / f"glue_{name}.csv", Trial, Result)
        for name in ("before", "fine_tuned")
    )
    if arguments.experiment != "page":
        trials_of, fine_tunes = EXPERIMENTS[arguments.experiment]
        runner = Runner(arguments.cache)
        for seed in range(arguments.seeds):
            trials = trials_of(arguments.tasks, arguments.rates, seed)
            if fine_tunes:
                after_rows.complete(trials, runner.fine_tune)
            else:
                before_rows.complete(trials, runner.measure)
    write_page(before_rows.results, after_rows.results)


if __name__ == "__main__":
    main()
