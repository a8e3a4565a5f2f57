"""LeNet-300-100 in codebooks and codes, at 30 x fewer bytes (iPQ with our k-means).

    KPROJCLUST_DATA=folder python docs/experiments/lenet_codes.py choose [--seeds N]
    KPROJCLUST_DATA=folder python docs/experiments/lenet_codes.py test [--seeds N]

Layer after layer becomes codes, and after each the network is fine-tuned. As in
lenet_small.py, "choose" knows training images alone, and "test" looks at the test
images once. Rows are written to lenet_codes_choose.csv and lenet_codes_test.csv as they
come; a second call goes on where the first one stopped.
"""

import argparse
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import keras
import numpy as np
from lenet_small import network_to_choose_by, without_held_out
from provenance import provenance
from real_data import mnist, trained_lenet
from rows import Rows

from keras_messi import PQConfig, compress_in_groups
from keras_messi.demo import HIDDEN_LAYERS, Digits, accuracy, distill
from keras_messi.families import family_of

HERE = Path(__file__).parent
CALIBRATION = 2000


@dataclass(frozen=True)
class Trial:
    """Blocks and codewords of both layers; weights of inputs, or not; epochs."""

    first_block: int
    first_codewords: int
    second_block: int
    second_codewords: int
    calibrated: str = "yes"
    epochs: int = 2
    seed: int = 0

    def configs(self) -> list[PQConfig]:
        """What to do with each layer."""
        return [
            PQConfig(self.first_block, self.first_codewords, seed=self.seed),
            PQConfig(self.second_block, self.second_codewords, seed=self.seed),
        ]


@dataclass(frozen=True)
class Result:
    """Bytes of all weights as stored, and shares of the images before and after."""

    stored_bytes: int
    accuracy_before: float
    accuracy_after: float


def run(model: keras.Model, data: Digits, trial: Trial) -> Result:
    """Code both hidden layers, one after the other, and fine-tune after each."""
    keras.utils.set_random_seed(trial.seed)
    before = []

    def fine_tune(small: keras.Model) -> None:
        before.append(accuracy(small, data.x_test, data.y_test))
        distill(small, model, data, trial.epochs)

    inputs = data.x_train[:CALIBRATION] if trial.calibrated == "yes" else None
    groups = [f"^{name}$" for name in HIDDEN_LAYERS]
    small, _ = compress_in_groups(
        model, trial.configs(), groups, fine_tune, calibration_data=inputs
    )
    return Result(
        family_of(small).surgery.stored_bytes(small),
        before[0],
        accuracy(small, data.x_test, data.y_test),
    )


# All at 30 x fewer bytes, or a little more.
SIZES = [(8, 64, 6, 32), (8, 64, 5, 32), (14, 128, 5, 32), (7, 32, 5, 32)]
CHOICES = [
    *(Trial(*size) for size in SIZES),
    Trial(*SIZES[0], calibrated="no"),
]
# Taken from "choose", where all are within what is chance.
CHOSEN = CHOICES[2]
EXPERIMENTS = {"choose": CHOICES, "test": [CHOSEN]}
COLUMNS = ("first layer", "second layer", "weights of inputs", "epochs after each")


def format_table(
    rows: Rows, trials: list[Trial], seeds: int, size: int, baseline: float
) -> str:
    """Markdown table of sizes and points lost, mean and standard deviation."""
    heading = [*COLUMNS, "bytes", "fewer bytes", "first coded, lost", "lost"]
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    for trial in trials:
        found = [rows.results[replace(trial, seed=seed)] for seed in range(seeds)]
        lost = 100 * (baseline - np.array([x.accuracy_after for x in found]))
        first = 100 * (baseline - np.mean([x.accuracy_before for x in found]))
        stored = max(x.stored_bytes for x in found)
        cells = [
            f"{trial.first_codewords} x {trial.first_block}",
            f"{trial.second_codewords} x {trial.second_block}",
            trial.calibrated,
            trial.epochs,
            f"{stored:,}",
            f"{size / stored:.1f} x",
            f"{first:.2f}",
            f"{lost.mean():.2f} ± {lost.std():.2f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing of one experiment, then write its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    name = f"lenet_codes_{asked.experiment}"
    data, model, images = mnist(), trained_lenet(), "test images"
    if asked.experiment == "choose":
        data, images = without_held_out(data), "held-out training images"
        model = network_to_choose_by(data)
    trials = EXPERIMENTS[asked.experiment]
    rows = Rows(HERE / f"{name}.csv", Trial, Result)
    rows.complete(
        [replace(x, seed=seed) for seed, x in product(range(asked.seeds), trials)],
        lambda trial: run(model, data, trial),
    )
    size = family_of(model).surgery.stored_bytes(model)
    baseline = accuracy(model, data.x_test, data.y_test)
    command = f"lenet_codes.py {asked.experiment} --seeds {asked.seeds}"
    text = "\n\n".join(
        [
            f"# LeNet-300-100 in codes, by {images}",
            f"Points of accuracy lost on the 10,000 {images}, of which the "
            f"uncompressed network gets {100 * baseline:.2f} % right: mean ± standard "
            f"deviation over {asked.seeds} seeds. Layers are given as codewords x "
            "block size; each has one codebook for all its blocks.",
            format_table(rows, trials, asked.seeds, size, baseline),
            provenance(f"python docs/experiments/{command}"),
        ]
    )
    (HERE / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
