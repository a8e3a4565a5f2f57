"""One model, compressed in one way and measured; rows in files, so that runs go on."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tf_keras
from glue_data import TASKS, Task, load
from glue_models import TRAINING_EXAMPLES, fine_tuned, fit, score
from tqdm import tqdm
from word_table import embedding_model

from keras_messi import CompressionReport, MessiConfig, compress

# As in the paper: 2 epochs, here over a part of the training examples.
EPOCHS = 2
LEARNING_RATE = 5e-5

# Method, and how it differs from plain MESSI.
METHODS: dict[str, dict[str, str]] = {
    "uncompressed": {},
    "SVD": {},
    "MESSI": {},
    "MESSI l_1": {"loss": "l1"},
    "k-means": {"clustering": "k-means"},
    "ours": {"ranks": "budget"},
}


@dataclass(frozen=True)
class Trial:
    """What is tried; either rate or rank is 0, both without compression."""

    task: str
    method: str
    num_clusters: int
    rate: float
    rank: int = 0
    seed: int = 0

    def config(self) -> MessiConfig:
        """How `compress` is told so."""
        options = {"ranks": "uniform", **METHODS[self.method]}
        size = {"rank": self.rank} if self.rank else {"rate": self.rate}
        return MessiConfig(
            num_clusters=self.num_clusters, seed=self.seed, **size, **options
        )


@dataclass(frozen=True)
class Result:
    """What came of a trial: numbers of the word table, and scores times 100.

    `score_before` and `score_after` fine-tuning are of dev, `training_score` is of the
    examples that were fine-tuned on. nan: not fine-tuned.
    """

    numbers: int
    relative_error: float
    score_before: float
    score_after: float = float("nan")
    training_score: float = float("nan")


class Runner:
    """Runs trials; holds what the trials of one task share."""

    def __init__(self, cache: Path):
        self.cache = cache
        self.task: Task | None = None

    def take(self, task: Task) -> None:
        """Load the fine-tuned model and the data of a task, unless they are at hand."""
        if task == self.task:
            return
        self.task = task
        self.model = fine_tuned(task, self.cache)
        self.table = self.model.bert.embeddings.weight.numpy()
        self.dev = load(task, "dev")
        self.train = load(task, "train", task.num_examples)
        self.texts = load(task, "train", TRAINING_EXAMPLES)
        self.baseline = score(self.model, task, self.dev)

    def measure(self, trial: Trial) -> Result:
        """The score without fine-tuning, and without a graph for each small model.

        The model reads from a word table of what the small layer looks up.
        """
        self.take(TASKS[trial.task])
        if trial.method == "uncompressed":
            return self._uncompressed()
        words = np.concatenate([example.ids for example in self.texts.examples])
        data = calibration(trial, words[None])
        small, report = compress(embedding_model(self.table), trial.config(), **data)
        weight = self.model.bert.embeddings.weight
        weight.assign(keras.ops.convert_to_numpy(small.get_layer("words").embeddings))
        found = score(self.model, self.task, self.dev)
        weight.assign(self.table)
        return _result(report, found)

    def fine_tune(self, trial: Trial) -> Result:
        """The scores before and after fine-tuning, as a user would do it."""
        self.take(TASKS[trial.task])
        tf_keras.utils.set_random_seed(trial.seed)
        if trial.method == "uncompressed":
            model, result = fine_tuned(self.task, self.cache), self._uncompressed()
        else:
            data = calibration(trial, self.texts)
            config = trial.config()
            model, report = compress(self.model, config, "word_embeddings", **data)
            result = _result(report, score(model, self.task, self.dev))
        fit(model, self.task, self.train, EPOCHS, LEARNING_RATE)
        return replace(
            result,
            score_after=score(model, self.task, self.dev),
            training_score=score(model, self.task, self.train),
        )

    def _uncompressed(self) -> Result:
        return Result(self.table.size, 0.0, self.baseline)


def calibration(trial: Trial, data: Any) -> dict[str, Any]:
    """Only our method looks at the texts that the model was trained on."""
    return {"calibration_data": data} if trial.method == "ours" else {}


def _result(report: CompressionReport, score_before: float) -> Result:
    (table,) = report.replaced
    return Result(table.parameters_after, table.relative_error, score_before)


class Rows:
    """A csv file with a line for each trial that was run."""

    COLUMNS = [field.name for field in (*fields(Trial), *fields(Result))]

    def __init__(self, path: Path):
        self.path = path
        self.results = dict(self._read())

    def _read(self) -> Iterator[tuple[Trial, Result]]:
        if self.path.exists():
            with self.path.open(newline="") as file:
                for row in csv.DictReader(file):
                    yield _parse(Trial, row), _parse(Result, row)

    def complete(self, trials: Iterable[Trial], run: Callable[[Trial], Result]) -> None:
        """Run what is missing."""
        missing = [trial for trial in trials if trial not in self.results]
        for trial in tqdm(missing, mininterval=10):
            self._append(trial, run(trial))

    def _append(self, trial: Trial, result: Result) -> None:
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(self.COLUMNS)
            writer.writerow([*astuple(trial), *astuple(result)])
        self.results[trial] = result


def _parse(kind: type, row: dict[str, str]) -> Any:
    return kind(**{field.name: field.type(row[field.name]) for field in fields(kind)})
