"""The paper's Figures 9 and 16: accuracy lost by LeNet-300-100 against the rate.

    KPROJCLUST_DATA=folder python docs/experiments/lenet_mnist.py [--seeds N]

Compresses both hidden layers of the network on MNIST and fine-tunes it for 2 epochs.
Rows are written to lenet_mnist.csv as they come; a second call goes on where the first
one stopped, and writes the table lenet_mnist.md and the pictures.
"""

import argparse
from itertools import product
from pathlib import Path

from lenet_plots import WHEN, Results, points_lost, save_curves, with_fields
from lenet_trials import Result, Trial, run
from provenance import provenance
from real_data import mnist, trained_lenet
from rows import Rows

from keras_messi.cli.demo import RATES, accuracy

HERE = Path(__file__).parent
COUNTS = (2, 3, 4, 5)
MESSI, K_MEANS = ([(name, k) for k in COUNTS] for name in ("MESSI", "k-means"))
FIGURE_9 = [("SVD", 1), *MESSI, ("ours", 5)]
FIGURE_16 = [*MESSI, *K_MEANS]
KINDS = [("SVD", 1), *MESSI, *K_MEANS, ("ours", 5)]


def format_table(results: Results, baseline: float) -> str:
    """Markdown table of the points lost, mean and standard deviation over the seeds."""
    lines = [
        "| removed | method | k | parameters | lost before | lost after 2 epochs |",
        "|---|---|---|---|---|---|",
    ]
    for rate, (method, k) in product(RATES, KINDS):
        wanted = {"rate": rate, "method": method, "num_clusters": k}
        size = max(x.parameters for x in with_fields(results, **wanted))
        lost = [points_lost(results, baseline, when, **wanted) for when in WHEN]
        cells = [f"{x.mean():.2f} ± {x.std():.2f}" for x in lost]
        lines.append(
            f"| {100 * rate:g} % | {method} | {k} | {size:,} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then write the table and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    data, model = mnist(), trained_lenet()
    rows = Rows(HERE / "lenet_mnist.csv", Trial, Result)
    trials = [
        Trial(*kind, rate, seed=seed)
        for seed, rate, kind in product(range(seeds), RATES, KINDS)
    ]
    rows.complete(trials, lambda trial: run(model, data, trial))
    results = {trial: rows.results[trial] for trial in trials}
    baseline = accuracy(model, data.x_test, data.y_test)
    save_curves(results, FIGURE_9, baseline, HERE / "lenet_mnist.png")
    save_curves(results, FIGURE_16, baseline, HERE / "lenet_k_means.png")
    text = "\n\n".join(
        [
            "# LeNet-300-100 on MNIST: points of accuracy lost",
            f"Both hidden layers compressed; uncompressed {100 * baseline:.2f} % of "
            f"the 10,000 test images. Mean ± standard deviation over {seeds} seeds; "
            "parameters are the most of them. All are fine-tuned alike, with Adam at a "
            "learning rate of 0.001. MESSI, k-means: the same rank for each cluster; "
            "ours: `MessiConfig(rate)`.",
            format_table(results, baseline),
            provenance(f"python docs/experiments/lenet_mnist.py --seeds {seeds}"),
        ]
    )
    (HERE / "lenet_mnist.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
