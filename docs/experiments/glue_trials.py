"""One word table compressed in one way, and the model measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tf_keras
from glue_data import TASKS, Task, load
from glue_models import TRAINING_EXAMPLES, fine_tuned, fit, score
from glue_rows import Result, Trial
from word_table import embedding_model

from keras_messi import CompressionReport, compress

# As in the paper: 2 epochs, here over a part of the training examples.
EPOCHS = 2
LEARNING_RATE = 5e-5


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
