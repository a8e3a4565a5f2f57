"""All of MiniLM within a budget of bytes: what its embeddings lose on STS-B.

    KPROJCLUST_DATA=folder python docs/experiments/byte_budget.py [--seeds 3]
        [--models MiniLM paraphrase-MiniLM-L3]

Not fine-tuned. `BudgetConfig(max_bytes)`, calibrated on sentences of STS-B's training
pairs, on sentences of SST-2 and CoLA, or on nothing; beside it, rounding alone
(`RoundingConfig`), calibrated and not, and what others make of MiniLM, by
whole_minilm_rivals.py. The dev pairs are scored once for each row. Rows are written as
they come; the same command goes on where it was interrupted.
"""

import argparse
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import whole_minilm_rivals
from glue_data import TASKS, read_rows
from provenance import provenance
from real_data import minilm_folder, paraphrase_folder
from rows import Rows
from sentence_similarity import Pairs, grouped, pad, tokens

from keras_messi import BudgetConfig, RoundingConfig, compress
from keras_messi.huggingface import from_pretrained

# Where the files of each model are, and the budgets: 11, 13, 16, 20 and 11, 16 x less.
MODELS = {
    "MiniLM": (minilm_folder, (8.1, 6.95, 5.65, 4.5)),
    "paraphrase-MiniLM-L3": (paraphrase_folder, (6.32, 4.35)),
}
HERE = Path(__file__)
SENTENCES = 2048
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


def texts_of(name: str, seed: int) -> list[str]:
    """Training sentences to calibrate on, of as many of each task."""
    tasks = {"STS-B": ["STS-B"], "SST-2 and CoLA": ["SST-2", "CoLA"]}[name]
    found: list[str] = []
    for task in tasks:
        rows, column = read_rows(TASKS[task], "train"), TASKS[task].text_columns[0]
        # Rows stand source by source.
        chosen = np.random.default_rng(seed).permutation(len(rows))
        found += [rows[i][column] for i in chosen[: SENTENCES // len(tasks)]]
    return found


def batches_of(name: str, seed: int) -> list[dict[str, np.ndarray]] | None:
    """Batches of word pieces: a random one, then by length, with little padding."""
    if name == "none":
        return None
    ids = tokens(texts_of(name, seed))
    ids = [ids[i] for i in np.random.default_rng(seed).permutation(len(ids))]
    ids[BATCH_SIZE:] = sorted(ids[BATCH_SIZE:], key=len)
    return [pad(ids[i : i + BATCH_SIZE]) for i in range(0, len(ids), BATCH_SIZE)]


def trials(model: str, seeds: int) -> list[Trial]:
    """All rows of a model."""
    _, (largest, *smaller) = MODELS[model]
    calibrated = [("STS-B", seed) for seed in range(seeds)]
    calibrated += [("SST-2 and CoLA", 0), ("none", 0)]
    forms = [(largest, 0), *((x, 0) for x in smaller), (0, 4), (0, 3)]
    return [
        Trial(megabytes, text, seed, bits)
        for text, seed in calibrated
        for megabytes, bits in forms
        # Rounding draws nothing, and smaller files need text.
        if not (bits and seed) and (text != "none" or megabytes not in smaller)
    ]


def run(trial: Trial, model: Any, pairs: Pairs, before: float) -> Result:
    """Compress and score."""
    start = time.perf_counter()
    data = batches_of(trial.text, trial.seed)
    small, report = compress(model, trial.config(), calibration_data=data)
    seconds = time.perf_counter() - start
    sizes = report.file_bytes_before, report.file_bytes_after
    return Result(*sizes, before, pairs.score(small), seconds)


def rows_of(model: str) -> Rows:
    """What was measured so far of a model."""
    name = HERE.stem if model == "MiniLM" else f"{HERE.stem}_{model}"
    return Rows(HERE.with_name(f"{name}.csv"), Trial, Result)


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


def section(model: str) -> list[str]:
    """What a model loses, and what it loses by others."""
    rows, others = rows_of(model), whole_minilm_rivals.table(model)
    if not rows.results:
        return []
    before = next(iter(rows.results.values())).score_before
    return [
        f"## {model}, {before:.2f} uncompressed",
        table(rows),
        *(
            ["Made smaller by others (`whole_minilm_rivals.py`):", others]
            if others
            else []
        ),
    ]


def write(command: str) -> None:
    """Write the rows that there are, with those of others."""
    text = "\n\n".join(
        [
            "# MiniLM within a budget of bytes",
            "Spearman's correlation x 100 on the dev pairs of STS-B; not fine-tuned. "
            "Differences below .3 with one seed are ties.",
            *(part for model in MODELS for part in section(model)),
            provenance(command),
        ]
    )
    HERE.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    asked = parser.parse_args()
    pairs, command = Pairs("dev"), f"{HERE.name} --seeds {asked.seeds}"
    for name in asked.models:
        model, rows = from_pretrained(MODELS[name][0]()), rows_of(name)
        before = pairs.score(model)
        compress_and_score = partial(run, model=model, pairs=pairs, before=before)
        for trial in trials(name, asked.seeds):
            rows.complete([trial], compress_and_score)
            write(f"python docs/experiments/{command}")


if __name__ == "__main__":
    main()
