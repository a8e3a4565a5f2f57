"""What `MessiConfig(rate=...)` costs with no other choice, next to the old defaults.

    KPROJCLUST_DATA=folder python docs/experiments/defaults.py

LeNet-300-100 on the test images of MNIST, MiniLM on the dev pairs of STS-B; neither
calibration data nor fine-tuning. Writes defaults.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from provenance import provenance
from real_data import minilm_folder, mnist, trained_lenet
from sentence_similarity import Pairs

from keras_messi import MessiConfig, compress
from keras_messi.cli.demo import accuracy
from keras_messi.huggingface import from_pretrained

SEEDS = 3


def rows(
    name: str,
    model: Any,
    rates: list[float],
    scopes: list[str],
    score: Callable[[Any], float],
):
    """Rows of the table for one model, mean and spread over seeds."""
    before = score(model)
    for rate in rates:
        for scope in scopes:
            scores, sizes = [], []
            for seed in range(SEEDS):
                config = MessiConfig(rate=rate, scope=scope, seed=seed)
                small, report = compress(model, config)
                scores.append(score(small))
                sizes.append(report.file_bytes_before / report.file_bytes_after)
            cells = f"{np.mean(scores):.2f} ± {np.std(scores):.2f}"
            size = f"{np.mean(sizes):.2f} x"
            start = f"| {name}, {before:.2f} | {rate:g} | {scope} | "
            yield f"{start}{size} | {cells} |"


def main() -> None:
    """Measure, and write the table."""
    digits, pairs = mnist(), Pairs("dev")
    lines = [
        "| model, before | rate | scope | smaller | after |",
        "|---|---|---|---|---|",
    ]
    lenet, minilm = trained_lenet(), from_pretrained(minilm_folder())
    every = [
        rows(
            "LeNet-300-100",
            lenet,
            [0.5, 0.8, 0.9],
            ["auto", "model", "layer"],
            lambda x: 100 * accuracy(x, digits.x_test, digits.y_test),
        ),
        rows("MiniLM", minilm, [0.3, 0.5], ["auto"], pairs.score),
    ]
    for line in (line for some in every for line in some):
        lines.append(line)
        print(line, flush=True)
    text = "\n\n".join(
        [
            "# Defaults",
            "Accuracy on MNIST in %, Spearman's correlation x 100 on STS-B; "
            "`MessiConfig(rate, scope=scope)`, nothing else, mean ± standard deviation "
            "over 3 seeds. No calibration data, not fine-tuned. `scope` is "
            '"auto" by default.',
            "\n".join(lines),
            provenance("python docs/experiments/defaults.py"),
        ]
    )
    Path(__file__).with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
