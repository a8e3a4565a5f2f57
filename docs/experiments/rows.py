"""Trials and what came of them, in a file, so that a second call goes on."""

import argparse
import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm


class Rows:
    """A csv file with a line for each trial that was run.

    Args:
        path: The file; it may be missing.
        trial: Frozen dataclass of what is tried; its fields are str, int or float.
        result: Dataclass of what comes of it, likewise.
    """

    def __init__(self, path: Path, trial: type, result: type):
        self.path, self.trial, self.result = path, trial, result
        self.results = dict(self._read())

    def _read(self) -> Iterator[tuple[Any, Any]]:
        if self.path.exists():
            with self.path.open(newline="") as file:
                for row in csv.DictReader(file):
                    yield _parse(self.trial, row), _parse(self.result, row)

    def complete(self, trials: Iterable[Any], run: Callable[[Any], Any]) -> None:
        """Run what is missing, and write each line as it comes."""
        missing = [trial for trial in trials if trial not in self.results]
        for trial in tqdm(missing, mininterval=10):
            self._append(trial, run(trial))

    def _append(self, trial: Any, result: Any) -> None:
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                kinds = self.trial, self.result
                writer.writerow(field.name for kind in kinds for field in fields(kind))
            writer.writerow([*astuple(trial), *astuple(result)])
        self.results[trial] = result


def _parse(kind: type, row: dict[str, str]) -> Any:
    return kind(**{field.name: field.type(row[field.name]) for field in fields(kind)})


def options_of(docstring: str) -> argparse.Namespace:
    """What a script was called with: the question, and for how many seeds."""
    parser = argparse.ArgumentParser(description=docstring.splitlines()[0])
    parser.add_argument("question", choices=["choose", "table"])
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()
