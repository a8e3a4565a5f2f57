"""LeNet-300-100 at 20 x fewer numbers and at 30 x fewer bytes.

    KPROJCLUST_DATA=folder python docs/experiments/lenet_small.py choose [--seeds N]
    KPROJCLUST_DATA=folder python docs/experiments/lenet_small.py test [--seeds N]

The first sets choices side by side on training images alone: on a network that is
trained without the last 10,000 of them, and judged on these. The second takes what was
chosen, and looks at the test images once. Rows are written to lenet_small_choose.csv
and lenet_small_test.csv as they come; a second call goes on where the first one
stopped, and writes the table of that name.
"""

import argparse
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import keras
import numpy as np
from lenet_trials import Result, Trial, fine_tuned
from provenance import provenance
from real_data import mnist, trained_lenet
from rows import Rows

from keras_messi import quantize
from keras_messi.demo import Digits, accuracy, lenet_300_100, train
from keras_messi.families import family_of
from keras_messi.report import count_parameters

HERE = Path(__file__).parent
HELD_OUT = 10_000


@dataclass(frozen=True)
class StoredTrial(Trial):
    """What is tried; once fine-tuned, the factors are stored in such numbers."""

    mode: str = "float32"


@dataclass(frozen=True)
class StoredResult(Result):
    """What came of it; bytes of all weights of the network as stored."""

    stored_bytes: int


def run(model: keras.Model, data: Digits, trial: StoredTrial) -> StoredResult:
    """Compress both hidden layers, fine-tune, store, and measure what is stored."""
    small, before = fine_tuned(model, data, trial)
    numbers = count_parameters(small)
    if trial.mode != "float32":
        small = quantize(small, trial.mode)
    return StoredResult(
        parameters=numbers,
        accuracy_before=before,
        accuracy_after=accuracy(small, data.x_test, data.y_test),
        stored_bytes=family_of(small).surgery.stored_bytes(small),
    )


FEWER_NUMBERS = partial(StoredTrial, rate=0.95, recipe="distilled")
FEWER_BYTES = partial(StoredTrial, rate=0.9, recipe="distilled", mode="int8")

CHOICES = [
    *(FEWER_NUMBERS("ours", k) for k in (2, 3, 5, 10)),
    *(FEWER_NUMBERS(method, 5) for method in ("ours, shared", "ours, calibrated")),
    *(FEWER_NUMBERS("ours", k, recipe="plain") for k in (5, 10)),
    *(FEWER_BYTES("ours", k) for k in (5, 10)),
    *(FEWER_BYTES("ours", k, rate=0.81, mode="int4") for k in (5, 10)),
]
OTHERS = [("SVD", 1), ("k-means", 5), ("MESSI", 5)]
TESTS = [
    *(FEWER_NUMBERS(*kind) for kind in [*OTHERS, ("ours", 5)]),
    *(FEWER_BYTES(*kind) for kind in [*OTHERS, ("ours", 10)]),
]
COLUMNS = (
    "method",
    "k",
    "removed",
    "fine-tuning",
    "stored as",
    "numbers",
    "bytes",
    "fewer bytes",
    "lost",
)


def without_held_out(data: Digits) -> Digits:
    """The training part, with its last images in the place of the test part."""
    return replace(
        data,
        x_train=data.x_train[:-HELD_OUT],
        y_train=data.y_train[:-HELD_OUT],
        x_test=data.x_train[-HELD_OUT:],
        y_test=data.y_train[-HELD_OUT:],
    )


def network_to_choose_by(data: Digits) -> keras.Model:
    """A network that has not seen the held-out images."""
    keras.utils.set_random_seed(0)
    model = lenet_300_100()
    train(model, data, epochs=20)
    return model


def format_table(
    rows: Rows,
    trials: list[StoredTrial],
    seeds: int,
    model: keras.Model,
    baseline: float,
) -> str:
    """Markdown table of sizes and points lost, mean and standard deviation."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    before = family_of(model).surgery.stored_bytes(model)
    for trial in trials:
        found = [rows.results[replace(trial, seed=seed)] for seed in range(seeds)]
        lost = 100 * (baseline - np.array([x.accuracy_after for x in found]))
        size = max(x.stored_bytes for x in found)
        cells = [
            trial.method,
            trial.num_clusters,
            f"{100 * trial.rate:g} %",
            trial.recipe,
            trial.mode,
            f"{max(x.parameters for x in found):,}",
            f"{size:,}",
            f"{before / size:.1f} x",
            f"{lost.mean():.2f} ± {lost.std():.2f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


EXPERIMENTS = {"choose": CHOICES, "test": TESTS}


def main() -> None:
    """Run what is missing of one experiment, then write its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    name = f"lenet_small_{asked.experiment}"
    data, model = mnist(), trained_lenet()
    images = "test images"
    if asked.experiment == "choose":
        data = without_held_out(data)
        images = "held-out training images"
        model = network_to_choose_by(data)
    trials = EXPERIMENTS[asked.experiment]
    rows = Rows(HERE / f"{name}.csv", StoredTrial, StoredResult)
    rows.complete(
        [replace(x, seed=seed) for seed, x in product(range(asked.seeds), trials)],
        lambda trial: run(model, data, trial),
    )
    baseline = accuracy(model, data.x_test, data.y_test)
    command = f"lenet_small.py {asked.experiment} --seeds {asked.seeds}"
    text = "\n\n".join(
        [
            f"# LeNet-300-100 as small as it gets, by {images}",
            f"Points of accuracy lost on the 10,000 {images}, of which the "
            f"uncompressed network gets {100 * baseline:.2f} % right: mean ± standard "
            f"deviation over {asked.seeds} seeds. Numbers and bytes are those of the "
            "whole network, the most of the seeds.",
            format_table(rows, trials, asked.seeds, model, baseline),
            provenance(f"python docs/experiments/{command}"),
        ]
    )
    (HERE / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
