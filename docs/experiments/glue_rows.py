"""Trials and what came of them, in files to which rows are appended."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from keras_messi import MessiConfig

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
