"""The Dense kernels of MiniLM's encoder as factors: what its embeddings lose on STS-B.

    KPROJCLUST_DATA=folder python docs/experiments/encoder_factors.py [--seeds 3]

In floats, not fine-tuned. Calibrated on 512 of the sentences of STS-B's training pairs,
drawn by the seed. Beside the call without further options, which shares the numbers out
over all kernels, each row removes as much from every kernel. The dev pairs are scored
once for each row, the best one for several seeds. The same command goes on where it was
interrupted.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from glue_data import TASKS, read_rows
from provenance import provenance
from real_data import minilm_folder
from rows import Rows
from sentence_similarity import Pairs, grouped, pad, tokens

from keras_messi import MessiConfig, compress
from keras_messi.huggingface import from_pretrained

RATES = (0.3, 0.5)
SENTENCES = 512
BATCH_SIZE = 64
PAPER = {"ranks": "uniform", "scope": "layer"}
OUTPUTS = {"side": "outputs", "scope": "layer"}
IN_SEQUENCE = {**OUTPUTS, "sequential": True}
# What `MessiConfig` is told besides the rate and the seed.
METHODS: dict[str, dict[str, Any]] = {
    "`MessiConfig(rate)`": {},
    "SVD, without data": {"num_clusters": 1, **PAPER},
    "MESSI, k = 5, without data": {"num_clusters": 5, **PAPER},
    "outputs, k = 1": {"num_clusters": 1, **OUTPUTS},
    "outputs, k = 4": {"num_clusters": 4, **OUTPUTS},
    "outputs, k = 1, in sequence": {"num_clusters": 1, **IN_SEQUENCE},
    "outputs, k = 4, in sequence": {"num_clusters": 4, **IN_SEQUENCE},
}

# Of these, by what was lost on training pairs.
BEST = "outputs, k = 1, in sequence"


@dataclass(frozen=True)
class Trial:
    """How the kernels are factored, and the share of their numbers removed."""

    method: str
    rate: float
    seed: int = 0

    @property
    def is_calibrated(self) -> bool:
        """Whether it takes calibration data."""
        return "without data" not in self.method


@dataclass(frozen=True)
class Result:
    """Share of the numbers left, Spearman's correlation x 100, seconds of `compress`.

    The output change is that on the first batch of calibration data.
    """

    left: float
    output_change: float
    score_before: float
    score: float
    seconds: float


def batches(seed: int) -> list[dict[str, np.ndarray]]:
    """Batches of training sentences."""
    rows = read_rows(TASKS["STS-B"], "train")
    chosen = np.random.default_rng(seed).permutation(len(rows))[:SENTENCES]
    ids = tokens([rows[i][TASKS["STS-B"].text_columns[0]] for i in chosen])
    # Of similar length, so that there is little padding; medium ones first.
    ids.sort(key=len)
    ids = ids[SENTENCES // 2 :] + ids[: SENTENCES // 2]
    starts = range(0, SENTENCES, BATCH_SIZE)
    return [pad(ids[start : start + BATCH_SIZE]) for start in starts]


def run(trial: Trial, model: Any, pairs: Pairs, before: float) -> Result:
    """Compress and score."""
    config = MessiConfig(trial.rate, seed=trial.seed, **METHODS[trial.method])
    data = batches(trial.seed) if trial.is_calibrated else None
    start = time.perf_counter()
    small, report = compress(model, config, "/encoder/", calibration_data=data)
    seconds = time.perf_counter() - start
    removed = report.parameters_before - report.parameters_after
    kernels = sum(size_of_kernels(model))
    change = report.output_change or 0.0
    score = pairs.score(small)
    return Result(1 - removed / kernels, change, before, score, seconds)


def size_of_kernels(model: Any) -> list[int]:
    """Numbers in each Dense kernel of the encoder."""
    kernels = [x for x in model.weights if x.name.endswith("/kernel:0")]
    return [int(np.prod(x.shape)) for x in kernels if "/encoder/" in x.name]


def table(rows: Rows) -> str:
    """The rows as a table, with the mean over seeds."""
    lines = [
        "| removed | factors | numbers left | lost | change | seeds | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = grouped(rows, list(rows.results), "rate", "method")
    order = list(METHODS)
    for (rate, method), found in sorted(
        groups.items(), key=lambda item: (item[0][0], order.index(item[0][1]))
    ):
        lost = np.array([x.score_before - x.score for x in found])
        lines.append(
            f"| {rate:.0%} | {method} | {np.mean([x.left for x in found]):.1%} "
            f"| {lost.mean():.2f} ± {lost.std():.2f} "
            f"| {np.mean([x.output_change for x in found]):.3f} | {len(found)} "
            f"| {np.median([x.seconds for x in found]):.0f} |"
        )
    return "\n".join(lines)


def write(rows: Rows, command: str) -> None:
    """Write the rows that there are."""
    before = next(iter(rows.results.values())).score_before
    text = "\n\n".join(
        [
            "# The encoder of MiniLM as factors",
            f"Spearman's correlation x 100 on the dev pairs of STS-B, {before:.2f} "
            "uncompressed; not fine-tuned. Differences below .3 are ties. The change "
            "is that of the outputs, as `CompressionReport` has it.",
            table(rows),
            provenance(command),
        ]
    )
    Path(__file__).with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    here = Path(__file__)
    rows = Rows(here.with_suffix(".csv"), Trial, Result)
    trials = [Trial(BEST, rate, seed) for seed in range(seeds) for rate in RATES]
    trials += [Trial(x, rate) for x in METHODS if x != BEST for rate in RATES]
    model, pairs = from_pretrained(minilm_folder()), Pairs("dev")
    before = pairs.score(model)
    for trial in trials:
        rows.complete([trial], lambda trial: run(trial, model, pairs, before))
        write(rows, f"python docs/experiments/{here.name} --seeds {seeds}")


if __name__ == "__main__":
    main()
