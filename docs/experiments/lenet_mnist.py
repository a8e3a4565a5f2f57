"""The paper's Figure 9: accuracy lost by LeNet-300-100 on MNIST against the rate.

    KPROJCLUST_DATA=folder python docs/experiments/lenet_mnist.py [--seeds N]

Compresses both hidden layers at each rate with k = 1 .. 5 subspaces and fine-tunes for
2 epochs. Rows are written to lenet_mnist.csv as they come; a second call goes on where
the first one stopped, and writes the table lenet_mnist.md and the picture.
"""

import argparse
import csv
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path

import numpy as np
from provenance import provenance
from real_data import mnist, trained_lenet
from tqdm import tqdm

from keras_messi.demo import CLUSTER_COUNTS, RATES, Trial, accuracy, run_trial
from keras_messi.plotting import save_accuracy_curves

HERE = Path(__file__).parent
ROWS = HERE / "lenet_mnist.csv"
COLUMNS = ["seed", *(field.name for field in fields(Trial))]


def read_rows() -> dict[tuple[int, float, int], Trial]:
    """The trials done so far, by seed, rate and number of clusters."""
    if not ROWS.exists():
        return {}
    done = {}
    with ROWS.open(newline="") as file:
        for row in csv.DictReader(file):
            seed = int(row.pop("seed"))
            kinds = {field.name: field.type for field in fields(Trial)}
            trial = Trial(**{name: kinds[name](value) for name, value in row.items()})
            done[seed, trial.rate, trial.num_clusters] = trial
    return done


def append_row(seed: int, trial: Trial) -> None:
    """Write one trial to the file."""
    new = not ROWS.exists()
    with ROWS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow({"seed": seed, **asdict(trial)})


def mean_trial(trials: list[Trial]) -> Trial:
    """The trials of several seeds, averaged."""
    means = {
        name: np.mean([getattr(trial, name) for trial in trials])
        for name in ("accuracy_before", "accuracy_after", "training_accuracy")
    }
    first = trials[0]
    return Trial(first.rate, first.num_clusters, first.parameters, **means)


def format_table(groups: dict[tuple[float, int], list[Trial]], baseline: float) -> str:
    """Markdown table of the points lost, mean and standard deviation over the seeds."""
    lines = [
        "| removed | k | parameters | lost before | lost after 2 epochs |",
        "|---|---|---|---|---|",
    ]
    for (rate, k), trials in groups.items():
        lost = {
            when: 100
            * (baseline - np.array([getattr(t, f"accuracy_{when}") for t in trials]))
            for when in ("before", "after")
        }
        cells = [f"{x.mean():.2f} ± {x.std():.2f}" for x in lost.values()]
        name = "1 (SVD)" if k == 1 else f"{k}"
        lines.append(
            f"| {100 * rate:g} % | {name} | {trials[0].parameters:,} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    data, model = mnist(), trained_lenet()
    baseline = accuracy(model, data.x_test, data.y_test)
    done = read_rows()
    wanted = list(product(seeds, RATES, CLUSTER_COUNTS))
    for seed, rate, k in tqdm([key for key in wanted if key not in done]):
        trial, _, _ = run_trial(model, data, rate, k, epochs=2, seed=seed)
        append_row(seed, trial)
        done[seed, rate, k] = trial
    groups = {
        (rate, k): [done[seed, rate, k] for seed in seeds]
        for rate, k in product(RATES, CLUSTER_COUNTS)
    }
    text = "\n\n".join(
        [
            "# LeNet-300-100 on MNIST: points of accuracy lost",
            f"Both hidden layers compressed; uncompressed {100 * baseline:.2f} % of "
            f"the 10,000 test images. Mean ± standard deviation over "
            f"{len(seeds)} seeds.",
            format_table(groups, baseline),
            provenance(f"python docs/experiments/lenet_mnist.py --seeds {len(seeds)}"),
        ]
    )
    (HERE / "lenet_mnist.md").write_text(text + "\n", encoding="utf-8")
    means = [mean_trial(trials) for trials in groups.values()]
    picture = HERE / "lenet_mnist.png"
    save_accuracy_curves(means, baseline, picture, "LeNet-300-100 on MNIST")
    print(text)


if __name__ == "__main__":
    main()
