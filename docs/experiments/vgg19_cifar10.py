"""The paper's Figure 10: accuracy lost by VGG-19 against the rate of its dense layers.

    KPROJCLUST_DATA=folder python docs/experiments/vgg19_cifar10.py [--seeds 3]
        [--features folder]

Compresses fc1 and fc2 of a VGG-19 on CIFAR-10, and fine-tunes all dense layers for 2
epochs on what the convolutions make of the training images, which stay as they are.
Rows are written to vgg19_cifar10.csv as they come; a second call goes on where the
first one stopped, and writes the table vgg19_cifar10.md and the picture.
"""

import argparse
import tempfile
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import keras
from lenet_plots import WHEN, points_lost, save_curves, with_fields
from provenance import provenance
from rows import Rows
from vgg19_network import Split, accuracy, dense_layers, features

from keras_messi import MessiConfig, compress

HERE = Path(__file__)
RATES = (0.8, 0.9, 0.95, 0.97, 0.98, 0.985)
KINDS = [("SVD", 1), ("MESSI", 2), ("MESSI", 5), ("ours", 2), ("ours", 5)]
# Clusters as many as it chooses, kernels weighted by what they receive on these many
# training images.
CALIBRATED, CALIBRATION = ("ours, calibrated", 0), 2000
EPOCHS, LEARNING_RATE = 2, 1e-3


@dataclass(frozen=True)
class Trial:
    """What is tried; 0 clusters leave the number to `num_clusters="auto"`."""

    method: str
    num_clusters: int
    rate: float
    seed: int = 0

    def config(self) -> MessiConfig:
        """How `compress` is told so."""
        ours = self.method.startswith("ours")
        return MessiConfig(
            rate=self.rate,
            num_clusters=self.num_clusters or "auto",
            ranks="budget" if ours else "uniform",
            scope="layer",
            seed=self.seed,
        )


@dataclass(frozen=True)
class Result:
    """Numbers of fc1 and fc2, their clusters, and shares of the test images."""

    parameters: int
    clusters: str
    accuracy_before: float
    accuracy_after: float


def run(model: keras.Model, train: Split, test: Split, trial: Trial) -> Result:
    """Compress, fine-tune, and measure before and after."""
    keras.utils.set_random_seed(trial.seed)
    data = None if trial.num_clusters else train.inputs[:CALIBRATION]
    small, report = compress(model, trial.config(), "fc[12]", calibration_data=data)
    before = accuracy(small, test)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile(keras.optimizers.Adam(LEARNING_RATE), loss)
    small.fit(train.inputs, train.labels, 128, EPOCHS, verbose=0)
    return Result(
        sum(x.parameters_after for x in report.replaced),
        " and ".join(str(x.num_clusters) for x in report.replaced),
        before,
        accuracy(small, test),
    )


def table(results: dict[Any, Any], baseline: float) -> str:
    """Points lost, mean and standard deviation over the seeds."""
    lines = [
        "| removed | method | k | parameters | lost before | lost after 2 epochs |",
        "|---|---|---|---|---|---|",
    ]
    for rate, (method, k) in product(RATES, [*KINDS, CALIBRATED]):
        wanted = {"rate": rate, "method": method, "num_clusters": k}
        found = with_fields(results, **wanted)
        lost = [points_lost(results, baseline, when, **wanted) for when in WHEN]
        cells = [f"{x.mean():.2f} ± {x.std():.2f}" for x in lost]
        clusters = k or " or ".join(sorted({x.clusters for x in found}))
        size = max(x.parameters for x in found)
        lines.append(
            f"| {100 * rate:g} % | {method} | {clusters} | {size:,} "
            f"| {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--features", type=Path, default=Path(tempfile.gettempdir()))
    asked = parser.parse_args()
    train, test = (features(asked.features, split) for split in ("train", "test"))
    model = dense_layers()
    rows = Rows(HERE.with_suffix(".csv"), Trial, Result)
    trials = [
        Trial(*kind, rate, seed)
        for seed, rate, kind in product(range(asked.seeds), RATES, [*KINDS, CALIBRATED])
    ]
    rows.complete(trials, partial(run, model, train, test))
    results = {trial: rows.results[trial] for trial in trials}
    baseline = accuracy(model, test)
    save_curves(
        results,
        [*KINDS[:3], CALIBRATED],
        baseline,
        HERE.with_suffix(".png"),
        "VGG-19 on CIFAR-10",
    )
    text = [
        "# VGG-19 on CIFAR-10: points of accuracy lost",
        f"fc1 and fc2 compressed; uncompressed {100 * baseline:.2f} % of the 10,000 "
        f"test images. Mean ± standard deviation over {asked.seeds} seeds. "
        "SVD and MESSI: the same rank for each cluster; ours: `MessiConfig(rate)`; "
        'calibrated: `num_clusters="auto"`, on 2000 training images.',
        table(results, baseline),
        provenance(f"python docs/experiments/{HERE.name} --seeds {asked.seeds}"),
    ]
    HERE.with_suffix(".md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    print(*text, sep="\n\n")


if __name__ == "__main__":
    main()
