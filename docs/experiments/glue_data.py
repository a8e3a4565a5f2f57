"""Six GLUE tasks as batches of word pieces. Their authors are named in glue.md."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tf_keras
from real_data import data_folder, minilm_folder
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, matthews_corrcoef

MAX_LENGTH = 96
BATCH_SIZE = 32


def spearman(y_true: np.ndarray, y_predicted: np.ndarray) -> float:
    """Spearman's correlation."""
    return spearmanr(y_true, y_predicted).statistic


@dataclass(frozen=True)
class Task:
    """A GLUE task; columns are counted from 0.

    `num_examples` of the training part are what compressed models are fine-tuned on.
    """

    name: str
    text_columns: tuple[int, ...]
    label_column: int
    label_names: tuple[str, ...]  # none: a number to predict
    num_examples: int
    metric: Callable[[np.ndarray, np.ndarray], float] = accuracy_score
    has_header: bool = True

    @property
    def num_outputs(self) -> int:
        """Width of the last layer."""
        return max(1, len(self.label_names))


TASKS = {
    task.name: task
    for task in (
        Task("CoLA", (3,), 1, ("0", "1"), 1000, matthews_corrcoef, has_header=False),
        Task("SST-2", (0,), 1, ("0", "1"), 1000),
        Task("STS-B", (7, 8), 9, (), 1000, spearman),
        Task("MRPC", (3, 4), 0, ("0", "1"), 500),
        Task("RTE", (1, 2), 3, ("entailment", "not_entailment"), 500),
        Task("WNLI", (1, 2), 3, ("0", "1"), 500),
    )
}


class Batches(tf_keras.utils.Sequence):
    """Examples in batches of similar length, each padded to its own longest.

    `labels` are in the order of the batches; `fit` shuffles the batches.
    """

    def __init__(self, examples: list, labels: np.ndarray):
        super().__init__()
        order = np.argsort([len(example.ids) for example in examples], kind="stable")
        self.examples = [examples[i] for i in order]
        self.labels = labels[order]

    def __len__(self) -> int:
        return -(-len(self.examples) // BATCH_SIZE)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        part = slice(index * BATCH_SIZE, (index + 1) * BATCH_SIZE)
        rows = self.examples[part]
        return self._padded(rows), self.labels[part]

    @staticmethod
    def _padded(rows: list) -> dict[str, np.ndarray]:
        shape = len(rows), max(len(row.ids) for row in rows)
        names = {
            "input_ids": "ids",
            "token_type_ids": "type_ids",
            "attention_mask": "attention_mask",
        }
        inputs = {name: np.zeros(shape, np.int32) for name in names}
        for name, attribute in names.items():
            for i, row in enumerate(rows):
                values = getattr(row, attribute)
                inputs[name][i, : len(values)] = values
        return inputs


def load(task: Task, part: str, at_most: int | None = None) -> Batches:
    """The train or dev part of a task, or so many examples of it drawn at random."""
    rows = read_rows(task, part)
    if at_most is not None and at_most < len(rows):
        chosen = np.random.default_rng(0).choice(len(rows), at_most, replace=False)
        rows = [rows[i] for i in np.sort(chosen)]
    texts = [tuple(row[column] for column in task.text_columns) for row in rows]
    labels = [row[task.label_column] for row in rows]
    examples = tokenizer(MAX_LENGTH).encode_batch(
        [text if len(text) > 1 else text[0] for text in texts]
    )
    if task.label_names:
        return Batches(examples, np.array([task.label_names.index(x) for x in labels]))
    return Batches(examples, np.array(labels, np.float32))


def read_rows(task: Task, part: str) -> list[list[str]]:
    """The examples of a part of a task as they stand in its file."""
    path = data_folder() / "glue" / task.name / f"{part}.tsv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return rows[1:] if task.has_header else rows


@cache
def tokenizer(max_length: int) -> Any:
    """The tokenizer of MiniLM, which cuts texts off after so many word pieces."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    found.no_padding()
    found.enable_truncation(max_length)
    return found
