"""Codes for the coordinates of subspaces, against int4 factors.

    KPROJCLUST_DATA=folder python docs/experiments/codes_on_coordinates.py choose
    KPROJCLUST_DATA=folder python docs/experiments/codes_on_coordinates.py table

The word table of MiniLM at 32 times fewer bytes and more, scored as in
sentence_similarity.py; nothing is fine-tuned. "choose" looks at training pairs of
STS-B, and CHOSEN was taken from it; "table" looks at the dev pairs. Rows are written as
they come, and a second call goes on where the first one stopped.
"""

from dataclasses import astuple, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import sentence_similarity
from provenance import write_page
from rows import Rows, options_of
from sentence_similarity import spread
from word_table import embedding_model

from keras_messi import MessiConfig, PQConfig
from keras_messi.calibration.statistics import TokenCounts, weights_of_rows
from keras_messi.layers.sizes import stored_bytes
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.registry import METHODS

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Trial:
    """How the word table is compressed.

    A rank of 0 stands for the rate.
    `quantization` is that of the factors, or of the bases where there are codes.
    """

    part: str
    num_clusters: int
    rank: int
    rate: float
    block_size: int
    num_codewords: int
    num_codebooks: str
    quantization: str
    seed: int

    @property
    def coding(self) -> PQConfig:
        """The codes."""
        books = self.num_codebooks
        count = books if books == "all" else int(books)
        return PQConfig(self.block_size, self.num_codewords, count, seed=self.seed)

    @property
    def config(self) -> MessiConfig:
        """What the new layer is to be, but for the bits of its bases."""
        return MessiConfig(
            rate=None if self.rank else self.rate,
            rank=self.rank or None,
            num_clusters=self.num_clusters,
            quantization=self.coding if self.block_size else self.quantization,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Result:
    """Bytes on disk, errors of the table, and Spearman's correlation x 100."""

    bytes: int
    relative_error: float
    weighted_error: float
    score: float


class Runner(sentence_similarity.Runner):
    """Runs trials with row weights, on one model."""

    def __init__(self) -> None:
        super().__init__()
        counts = TokenCounts(sentence_similarity.training_counts(len(self.table)))
        self.row_weights = weights_of_rows(counts)

    def run(self, trial: Trial) -> Result:
        """Compress the table, and score the model with what the new layer looks up."""
        layer = new_layer(self.table, trial, self.row_weights)
        table = keras.ops.convert_to_numpy(layer.embeddings)
        score = self.score_with(self.words, table, trial.part)
        ones = np.ones(len(table))
        errors = [self.error(table, x) for x in (ones, self.row_weights)]
        return Result(stored_bytes([layer]), *errors, score)

    def error(self, table: np.ndarray, weights: np.ndarray) -> float:
        """Relative squared error with weights of rows."""
        lost = np.sum((table - self.table) ** 2, axis=1)
        return float(weights @ lost / (weights @ np.sum(self.table**2, axis=1)))


def new_layer(table: np.ndarray, trial: Trial, weights: np.ndarray) -> keras.Layer:
    """The layer for a table, with row weights.

    `compress` would fit a second one without, to see whether it is better.
    """
    config = trial.config
    (layer,) = [x for x in embedding_model(table).layers if x.name == "words"]
    matrix = LayerMatrix(layer, table, weights)
    new = METHODS[type(config)].new_layer(matrix, config)
    if trial.block_size and trial.quantization:
        new.quantize(trial.quantization)
    return new


def codes(k: int, rank: int, block: int, words: int, books: str, bits: str) -> Trial:
    """A trial with codes, on training pairs."""
    return Trial("train", k, rank, 0.0, block, words, books, bits, 0)


def int4(rate: float) -> Trial:
    """A trial with int4 factors, on training pairs."""
    return Trial("train", 20, 0, rate, 0, 0, "", "int4", 0)


RIVAL = int4(0.776)


def budgeted(rate: float) -> Trial:
    """A trial with codes and ranks under a budget."""
    form = {"block_size": 4, "num_codewords": 256, "num_codebooks": "all"}
    return replace(RIVAL, rate=rate, **form)


CHOICES = [
    RIVAL,
    codes(1, 256, 8, 256, "all", "int8"),
    codes(20, 96, 4, 256, "all", "int4"),
    # The same with ranks under a budget.
    budgeted(0.64),
    budgeted(0.675),
]
# Taken from "choose".
CHOSEN = budgeted(0.675)
METHODS_OF_TABLE = {
    "codes on coordinates": CHOSEN,
    "int4 factors": RIVAL,
}


def of_table(method: Trial, seeds: int) -> list[Trial]:
    """The trials of a row of the table."""
    return [replace(method, part="dev", seed=seed) for seed in range(seeds)]


def format_choices(rows: Rows, size: int) -> str:
    """Scores on training pairs."""
    lines = [
        "| k | j | blocks | codewords | codebooks | bits | bytes | weighted error "
        "| train |",
        "|" + "---|" * 9,
    ]
    for trial in CHOICES:
        if trial not in rows.results:
            continue
        found = rows.results[trial]
        _, k, rank, rate, *form, bits, _ = astuple(trial)
        cells = [k, rank or (f"{rate:.1%} removed" if rate else "-")]
        cells += [x or "-" for x in (*form, bits)]
        cells += [f"{4 * size / found.bytes:.1f} x fewer"]
        cells += [f"{found.weighted_error:.4f}", f"{found.score:.2f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def format_table(rows: Rows, size: int, seeds: int) -> str:
    """Scores on dev pairs."""
    lines = [
        "| word table | bytes | relative error | weighted error | dev |",
        "|---|---|---|---|---|",
    ]
    for name, method in METHODS_OF_TABLE.items():
        found = [rows.results[trial] for trial in of_table(method, seeds)]
        relative = np.mean([x.relative_error for x in found])
        weighted = np.mean([x.weighted_error for x in found])
        lines.append(
            f"| {name} | {4 * size / found[0].bytes:.1f} x fewer | {relative:.4f} | "
            f"{weighted:.4f} | {spread(found)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing of one question, then write its page."""
    options = options_of(__doc__)
    rows = Rows(HERE / "codes_on_coordinates.csv", Trial, Result)
    runner = Runner()
    command = f"python docs/experiments/codes_on_coordinates.py {options.question}"
    if options.question == "choose":
        rows.complete(CHOICES, runner.run)
        text = format_choices(rows, runner.table.size)
    else:
        for method in METHODS_OF_TABLE.values():
            rows.complete(of_table(method, options.seeds), runner.run)
        text = format_table(rows, runner.table.size, options.seeds)
        command += f" --seeds {options.seeds}"
    path = HERE / f"codes_on_coordinates_{options.question}.md"
    write_page(path, f"Codes on coordinates: {options.question}", text, command)


if __name__ == "__main__":
    main()
