"""What MiniLM's sentence embeddings lose when its word table is compressed: Figure 8.

    KPROJCLUST_DATA=folder python docs/experiments/sentence_similarity.py choose
    KPROJCLUST_DATA=folder python docs/experiments/sentence_similarity.py table
    KPROJCLUST_DATA=folder python docs/experiments/sentence_similarity.py curves

Nothing is fine-tuned. "choose" compares dampings of the row weights and numbers of
subspaces on training pairs of STS-B, which CHOSEN below was taken from; "table" and
"curves" look at the dev pairs. Rows are written as they come, and a second call goes
on where the first one stopped.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
from glue_data import TASKS, read_rows, tokenizer
from provenance import write_page
from real_data import minilm_folder
from rows import Rows
from scipy.stats import spearmanr
from word_table import embedding_model

from keras_messi import MessiConfig, compress
from keras_messi.calibration.statistics import (
    DAMPING,
    CalibrationStatistics,
    TokenCounts,
)
from keras_messi.huggingface import from_pretrained

HERE = Path(__file__).parent
NUM_TRAINING_PAIRS = 1500
RATES = (0.4, 0.6, 0.8, 0.9, 0.95)
MAX_LENGTH = 128


@dataclass(frozen=True)
class Trial:
    """How the word table is compressed; a damping of 0 means no calibration."""

    part: str
    method: str
    rate: float
    num_clusters: int
    ranks: str
    damping: float
    quantization: str
    seed: int


@dataclass(frozen=True)
class Result:
    """What came of it: numbers, bytes on disk, and Spearman's correlation x 100."""

    numbers: int
    bytes: int
    relative_error: float
    score: float


class Pairs:
    """Pairs of sentences that people rated, in batches of similar length."""

    def __init__(self, part: str, at_most: int | None = None):
        rows = read_rows(TASKS["STS-B"], part)[:at_most]
        self.ratings = np.array([float(row[9]) for row in rows])
        ids = tokens([row[7] for row in rows] + [row[8] for row in rows])
        self.size = len(ids)
        order = np.argsort([len(x) for x in ids], kind="stable")
        self.batches = [
            (chosen, pad([ids[i] for i in chosen]))
            for chosen in np.array_split(order, max(1, len(order) // 128))
        ]

    def score(self, model: Any) -> float:
        """Spearman's correlation, x 100, of ratings and cosines of mean vectors."""
        embeddings = np.empty((self.size, model.config.hidden_size))
        for chosen, inputs in self.batches:
            states = model(inputs).last_hidden_state.numpy()
            mask = inputs["attention_mask"][..., None]
            means = (states * mask).sum(axis=1) / mask.sum(axis=1)
            norms = np.linalg.norm(means, axis=1, keepdims=True)
            embeddings[chosen] = means / norms
        first, second = np.split(embeddings, 2)
        return 100 * spearmanr(np.sum(first * second, axis=1), self.ratings).statistic


def tokens(texts: list[str]) -> list[list[int]]:
    """Word pieces of texts."""
    return [x.ids for x in tokenizer(MAX_LENGTH).encode_batch(texts)]


def pad(ids: list[list[int]]) -> dict[str, np.ndarray]:
    """A batch for the model."""
    shape = len(ids), max(map(len, ids))
    batch = {name: np.zeros(shape, "int32") for name in ("input_ids", "attention_mask")}
    for i, row in enumerate(ids):
        batch["input_ids"][i, : len(row)] = row
        batch["attention_mask"][i, : len(row)] = 1
    return batch


@cache
def training_counts(vocabulary: int) -> np.ndarray:
    """How often each word piece occurs in the training texts of six GLUE tasks."""
    counts = np.zeros(vocabulary, np.int64)
    for task in TASKS.values():
        rows = read_rows(task, "train")
        texts = [row[c] for row in rows for c in task.text_columns]
        found = np.concatenate([np.asarray(x, np.int64) for x in tokens(texts)])
        counts += np.bincount(found, minlength=vocabulary)
    return counts


def calibration(damping: float, vocabulary: int) -> CalibrationStatistics | None:
    """Counts that weigh rows as those of the training texts with another damping."""
    if not damping:
        return None
    counts = training_counts(vocabulary)
    if damping != DAMPING:
        counts = (1.0 + counts) ** (damping / DAMPING) - 1
    return CalibrationStatistics({"words": TokenCounts(counts)})


class Runner:
    """Runs trials on one model, whose word table is put back after each."""

    def __init__(self) -> None:
        self.model = from_pretrained(minilm_folder())
        self.words = self.model.bert.embeddings.weight
        self.table = self.words.numpy()
        self.pairs: dict[str, Pairs] = {}

    def run(self, trial: Trial) -> Result:
        """What comes of a trial."""
        config = MessiConfig(
            rate=trial.rate,
            num_clusters=trial.num_clusters,
            ranks=trial.ranks,
            quantization=trial.quantization or None,
            clustering="k-means" if trial.method == "k-means" else "subspaces",
            seed=trial.seed,
        )
        return self.measure(trial.part, config, trial.damping)

    def measure(self, part: str, config: Any, damping: float) -> Result:
        """Compress the table, and score the model with what the new layer looks up."""
        known = calibration(damping, len(self.table))
        plain = embedding_model(self.table)
        small, report = compress(plain, config, calibration_data=known)
        table = small.get_layer("words").embeddings
        table = keras.ops.convert_to_numpy(table)
        score = self.score_with(self.words, table, part)
        (row,) = report.replaced
        return Result(row.parameters_after, row.bytes_after, row.relative_error, score)

    def score_with(self, weight: Any, values: np.ndarray, part: str) -> float:
        """The score of the model with a weight that is put back after."""
        before = weight.numpy()
        weight.assign(values)
        score = self.score(part)
        weight.assign(before)
        return float(score)

    def score(self, part: str) -> float:
        """The score of the model as it is, on training or dev pairs."""
        if part not in self.pairs:
            at_most = NUM_TRAINING_PAIRS if part == "train" else None
            self.pairs[part] = Pairs(part, at_most)
        return self.pairs[part].score(self.model)


def ours(part: str, rate: float, seed: int, quantization: str = "") -> Trial:
    """Our method, with what was chosen on training pairs."""
    chosen = {"num_clusters": NUM_CLUSTERS, "ranks": "budget", "damping": DAMPING}
    return Trial(part, "ours", rate, quantization=quantization, seed=seed, **chosen)


def others(part: str, rate: float, seeds: Iterable[int], quantization: str = ""):
    """The singular value decomposition, k-means clusters and plain MESSI."""
    same = {"ranks": "uniform", "damping": 0.0, "quantization": quantization}
    return [
        Trial(part, "SVD", rate, 1, seed=0, **same),
        *(Trial(part, "k-means", rate, 5, seed=s, **same) for s in seeds),
        *(Trial(part, "MESSI", rate, 5, seed=s, **same) for s in seeds),
    ]


# Taken from "choose": the mean of both rates and seeds is highest.
NUM_CLUSTERS = 20
# What the rows of the table remove, so that the bytes come out as they say.
ROWS = {
    "80 % of the numbers removed": (0.8, ""),
    "90 % removed": (0.9, ""),
    "20 x fewer bytes": (0.62, "int4"),
    "40 x fewer bytes": (0.82, "int4"),
}


def choices() -> list[Trial]:
    """Dampings with 20 subspaces, 0 for none; numbers of subspaces with one damping."""
    pairs = [(20, e) for e in (0.0, 0.2, 0.3, 0.4, 0.5)]
    pairs += [(k, DAMPING) for k in (5, 10, 40)]
    return [
        Trial("train", "ours", rate, k, "budget", damping, "", 0)
        for (k, damping), rate in product(pairs, (0.8, 0.9))
    ]


def table_trials(seeds: int) -> list[Trial]:
    """All methods in each row of the table."""
    return [
        trial
        for rate, bits in ROWS.values()
        for trial in (
            *others("dev", rate, range(min(seeds, 3)), bits),
            *(ours("dev", rate, seed, bits) for seed in range(seeds)),
        )
    ]


def curve_trials(seeds: int) -> list[Trial]:
    """All methods at each rate of the figure."""
    return [
        trial
        for rate in RATES
        for trial in (
            *others("dev", rate, range(seeds)),
            *(ours("dev", rate, seed) for seed in range(seeds)),
        )
    ]


def grouped(rows: Rows, trials: list[Trial], *fields: str) -> dict[tuple, list[Result]]:
    """Results by some fields of their trials."""
    groups: dict[tuple, list[Result]] = {}
    for trial in trials:
        key = tuple(getattr(trial, field) for field in fields)
        groups.setdefault(key, []).append(rows.results[trial])
    return groups


def spread(results: list[Result]) -> str:
    """Mean and standard deviation of the scores."""
    scores = [result.score for result in results]
    deviation = f" ± {np.std(scores):.2f} ({len(scores)})" if len(scores) > 1 else ""
    return f"{np.mean(scores):.2f}{deviation}"


def format_choices(rows: Rows) -> str:
    """Scores on training pairs."""
    fields = ("num_clusters", "damping", "rate")
    groups = grouped(rows, choices(), *fields)
    lines = ["| k | damping | 80 % removed | 90 % removed |", "|---|---|---|---|"]
    for k, damping in dict.fromkeys((k, e) for k, e, _ in groups):
        cells = [spread(groups[k, damping, rate]) for rate in (0.8, 0.9)]
        lines.append(f"| {k} | {damping} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def format_table(rows: Rows, trials: list[Trial], size: int) -> str:
    """Scores and sizes of the rows of the table."""
    groups = grouped(rows, trials, "rate", "quantization", "method")
    lines = [
        "| word table | method | numbers removed | bytes | dev |",
        "|---|---|---|---|---|",
    ]
    for name, (rate, bits) in ROWS.items():
        for method in ("SVD", "k-means", "MESSI", "ours"):
            found = groups[rate, bits, method]
            numbers, size_ = found[0].numbers, found[0].bytes
            lines.append(
                f"| {name}{bits and ', ' + bits} | {method} | "
                f"{100 - 100 * numbers / size:.1f} % | {4 * size / size_:.1f} x fewer "
                f"| {spread(found)} |"
            )
    return "\n".join(lines)


def save_picture(rows: Rows, trials: list[Trial], baseline: float) -> None:
    """Figure 8: the score lost against the share removed."""
    from matplotlib.figure import Figure

    groups = grouped(rows, trials, "method", "rate")
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    styles = {"SVD": "k--", "k-means": "C1:", "MESSI": "C0-", "ours": "C2-"}
    for method, style in styles.items():
        scores = [[r.score for r in groups[method, rate]] for rate in RATES]
        lost = [baseline - np.mean(found) for found in scores]
        bars = [np.std(found) for found in scores]
        x = [100 * rate for rate in RATES]
        axes.errorbar(x, lost, bars, fmt=style, marker="o", capsize=3, label=method)
    axes.set_xlabel("numbers removed from the word table (%)")
    axes.set_ylabel("Spearman's correlation lost (points)")
    axes.set_title("MiniLM on STS-B, not fine-tuned")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(HERE / "sentence_similarity.png", dpi=150)


def main() -> None:
    """Run what is missing of one question, then write all pages that can be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=["choose", "table", "curves"])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows, runner = Rows(HERE / "sentence_similarity.csv", Trial, Result), Runner()
    command = (
        f"python docs/experiments/sentence_similarity.py {options.question} "
        f"--seeds {options.seeds}"
    )
    if options.question == "choose":
        rows.complete(choices(), runner.run)
        text = format_choices(rows)
    elif options.question == "table":
        trials = table_trials(options.seeds)
        rows.complete(trials, runner.run)
        text = format_table(rows, trials, runner.table.size)
    else:
        trials = curve_trials(options.seeds)
        rows.complete(trials, runner.run)
        baseline = runner.score("dev")
        save_picture(rows, trials, baseline)
        picture = (
            "![Correlation lost against the share removed](sentence_similarity.png)"
        )
        text = f"Uncompressed: {baseline:.2f}.\n\n{picture}"
    path = HERE / f"sentence_similarity_{options.question}.md"
    write_page(path, f"MiniLM on STS-B: {options.question}", text, command)


if __name__ == "__main__":
    main()
