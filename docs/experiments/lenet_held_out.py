"""Comparisons on LeNet-300-100: choose by held-out training images, then test once."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
from provenance import provenance
from real_data import mnist, trained_lenet
from rows import Rows

from keras_messi.cli.demo import Digits, accuracy, lenet_300_100, train
from keras_messi.models.adapter import family_of

HERE = Path(__file__).parent
HELD_OUT = 10_000


@dataclass(frozen=True)
class Result:
    """Bytes of all weights as stored, and shares of the images before and after."""

    stored_bytes: int
    accuracy_before: float
    accuracy_after: float


@dataclass(frozen=True)
class Comparison:
    """What is set side by side, and how its table is written.

    Args:
        name: Of the script, and the beginning of the names of its files.
        title: Of its pages.
        note: What the columns hold.
        trials: By "choose", "test" and what else is asked; a trial has a seed.
        result: Its kind; it has `stored_bytes` and `accuracy_after`.
        run: What comes of a trial with a network and images.
        columns: Those before the bytes, and
        cells: what stands there, from a trial, its results, and the share of the images
            that the uncompressed network gets right.
    """

    name: str
    title: str
    note: str
    trials: dict[str, list[Any]]
    result: type
    run: Callable[[keras.Model, Digits, Any], Any]
    columns: Sequence[str]
    cells: Callable[[Any, list[Any], float], list[Any]]

    def format_table(
        self, groups: dict[Any, list[Any]], size: int, right: float
    ) -> str:
        """Markdown table of sizes and points lost, mean and standard deviation."""
        heading = [*self.columns, "bytes", "fewer bytes", "lost"]
        lines = [heading, ["---"] * len(heading)]
        for trial, found in groups.items():
            lost = 100 * (right - np.array([x.accuracy_after for x in found]))
            stored = max(x.stored_bytes for x in found)
            sizes = [f"{stored:,}", f"{size / stored:.1f} x"]
            points = f"{lost.mean():.2f} ± {lost.std():.2f}"
            lines.append([*self.cells(trial, found, right), *sizes, points])
        return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

    def main(self) -> None:
        """Run what is missing of one question, then write its table."""
        parser = argparse.ArgumentParser(description=self.title)
        parser.add_argument("question", choices=self.trials)
        parser.add_argument("--seeds", type=int, default=5)
        asked = parser.parse_args()
        name, trials = f"{self.name}_{asked.question}", self.trials[asked.question]
        model, data, images = network_and_images(asked.question)
        rows = Rows(HERE / f"{name}.csv", type(trials[0]), self.result)
        rows.complete(
            [replace(x, seed=seed) for seed, x in product(range(asked.seeds), trials)],
            lambda trial: self.run(model, data, trial),
        )
        groups = {
            trial: [rows.results[replace(trial, seed=s)] for s in range(asked.seeds)]
            for trial in trials
        }
        right = accuracy(model, data.x_test, data.y_test)
        size = family_of(model).stored_bytes(model)
        other = ": other means" if asked.question == "others" else ""
        command = f"{self.name}.py {asked.question} --seeds {asked.seeds}"
        text = "\n\n".join(
            [
                f"# {self.title}, by {images}{other}",
                f"Points of accuracy lost on the 10,000 {images}, of which the "
                f"uncompressed network gets {100 * right:.2f} % right: mean ± standard "
                f"deviation over {asked.seeds} seeds. {self.note}",
                self.format_table(groups, size, right),
                provenance(f"python docs/experiments/{command}"),
            ]
        )
        (HERE / f"{name}.md").write_text(text + "\n", encoding="utf-8")
        print(text)


def network_and_images(question: str) -> tuple[keras.Model, Digits, str]:
    """What a question is answered with; to choose, without the test images."""
    data = mnist()
    if question != "choose":
        return trained_lenet(), data, "test images"
    data = without_held_out(data)
    return network_to_choose_by(data), data, "held-out training images"


def without_held_out(data: Digits) -> Digits:
    """The training part, with its last images in the place of the test part."""
    return replace(
        data,
        x_train=data.x_train[:-HELD_OUT],
        y_train=data.y_train[:-HELD_OUT],
        x_test=data.x_train[-HELD_OUT:],
        y_test=data.y_train[-HELD_OUT:],
    )


def network_to_choose_by(data: Digits) -> keras.Model:
    """A network that has not seen the held-out images."""
    keras.utils.set_random_seed(0)
    model = lenet_300_100()
    train(model, data, epochs=20)
    return model
