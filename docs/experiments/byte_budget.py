"""All of MiniLM within a budget of bytes: what its embeddings lose on STS-B.

    KPROJCLUST_DATA=folder python docs/experiments/byte_budget.py [--seeds 3]

Not fine-tuned. `BudgetConfig(max_bytes)`, calibrated on the first sentences of STS-B's
training pairs, on sentences of SST-2 and CoLA, or on nothing; beside it, rounding alone
(`RoundingConfig`), calibrated and not. The dev pairs are scored once for each row.
Rows are written as they come; the same command goes on where it was interrupted.
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

from keras_messi import BudgetConfig, RoundingConfig, compress
from keras_messi.huggingface import from_pretrained

MEGABYTES = (8.1, 6.95, 5.65, 4.5)
SENTENCES = 512
BATCH_SIZE = 64


@dataclass(frozen=True)
class Trial:
    """A budget or a number of bits, and the text to calibrate on."""

    megabytes: float
    text: str
    seed: int = 0
    bits: int = 0

    def config(self) -> Any:
        """How `compress` is told so."""
        if self.bits:
            return RoundingConfig(self.bits, 128 if self.bits > 3 else 64)
        return BudgetConfig(round(1e6 * self.megabytes), seed=self.seed)


@dataclass(frozen=True)
class Result:
    """Size of the files, Spearman's correlation x 100, and seconds of `compress`."""

    bytes_before: int
    bytes: int
    score_before: float
    score: float
    seconds: float


def texts_of(name: str) -> list[str]:
    """Training sentences to calibrate on."""
    tasks = {"STS-B": ["STS-B"], "SST-2 and CoLA": ["SST-2", "CoLA"]}[name]
    found: list[str] = []
    for task in tasks:
        rows, column = read_rows(TASKS[task], "train"), TASKS[task].text_columns[0]
        found += [row[column] for row in rows[: SENTENCES // len(tasks)]]
    return found


def batches_of(name: str, seed: int) -> list[dict[str, np.ndarray]] | None:
    """Batches of word pieces, shuffled."""
    if name == "none":
        return None
    ids = tokens(texts_of(name))
    order = np.random.default_rng(seed).permutation(len(ids))
    cuts = range(0, len(ids), BATCH_SIZE)
    return [pad([ids[i] for i in order[start : start + BATCH_SIZE]]) for start in cuts]


def trials(seeds: int) -> list[Trial]:
    """All rows of the table."""
    budgets = [Trial(x, "STS-B", seed) for seed in range(seeds) for x in MEGABYTES]
    others = [Trial(8.1, "none"), Trial(8.1, "SST-2 and CoLA")]
    others += [Trial(x, "SST-2 and CoLA") for x in MEGABYTES[1:]]
    rounded = [Trial(0, x, bits=b) for b in (4, 3) for x in ("STS-B", "none")]
    return [*budgets[:4], *others[:2], *rounded, *budgets[4:], *others[2:]]


def run(trial: Trial, model: Any, pairs: Pairs, before: float) -> Result:
    """Compress and score."""
    start = time.perf_counter()
    data = batches_of(trial.text, trial.seed)
    small, report = compress(model, trial.config(), calibration_data=data)
    seconds = time.perf_counter() - start
    sizes = report.file_bytes_before, report.file_bytes_after
    return Result(*sizes, before, pairs.score(small), seconds)


def table(rows: Rows) -> str:
    """The rows as a table, with the mean over seeds."""
    lines = [
        "| what | calibrated on | files, MB | times smaller | lost | seeds | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    groups = grouped(rows, list(rows.results), "megabytes", "bits", "text")
    for (megabytes, bits, text), found in groups.items():
        what = f"{bits} bits" if bits else f"{megabytes:g} MB"
        lost = np.array([x.score_before - x.score for x in found])
        size = np.mean([x.bytes for x in found])
        lines.append(
            f"| {what} | {text} | {size / 1e6:.2f} "
            f"| {found[0].bytes_before / size:.1f} x "
            f"| {lost.mean():.2f} ± {lost.std():.2f} | {len(found)} "
            f"| {np.median([x.seconds for x in found]):.0f} |"
        )
    return "\n".join(lines)


def write(rows: Rows, command: str) -> None:
    """Write the rows that there are."""
    before = next(iter(rows.results.values())).score_before
    text = "\n\n".join(
        [
            "# MiniLM within a budget of bytes",
            f"Spearman's correlation x 100 on the dev pairs of STS-B, {before:.2f} "
            "uncompressed; not fine-tuned. Differences below .3 are ties.",
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
    model, pairs = from_pretrained(minilm_folder()), Pairs("dev")
    before = pairs.score(model)
    for trial in trials(seeds):
        rows.complete([trial], lambda trial: run(trial, model, pairs, before))
        write(rows, f"python docs/experiments/{here.name} --seeds {seeds}")


if __name__ == "__main__":
    main()
