"""MiniLM fine-tuned on a GLUE task with plain `fit`, and its score."""

from pathlib import Path

import numpy as np
import tf_keras
from glue_data import Batches, Task, load
from real_data import minilm_folder
from transformers import TFBertForSequenceClassification, create_optimizer
from transformers import logging as transformers_logging

# Fixed before the first run, for all tasks and methods; nothing is tuned.
TRAINING_EXAMPLES = 4000
TRAINING_EPOCHS = 3
TRAINING_RATE = 1e-4


def fine_tuned(task: Task, cache: Path) -> TFBertForSequenceClassification:
    """The uncompressed model of a task: from the cache, or trained and put there."""
    transformers_logging.set_verbosity_error()
    folder = cache / task.name
    if not folder.exists():
        tf_keras.utils.set_random_seed(0)
        model = TFBertForSequenceClassification.from_pretrained(
            minilm_folder(), num_labels=task.num_outputs
        )
        batches = load(task, "train", TRAINING_EXAMPLES)
        fit(model, task, batches, TRAINING_EPOCHS, TRAINING_RATE)
        model.save_pretrained(folder)
    return TFBertForSequenceClassification.from_pretrained(folder)


def fit(
    model: tf_keras.Model, task: Task, batches: Batches, epochs: int, rate: float
) -> None:
    """Train in place: Adam, a tenth of the steps to warm up, then down to zero."""
    steps = epochs * len(batches)
    optimizer, _ = create_optimizer(rate, steps, steps // 10)
    loss = tf_keras.losses.MeanSquaredError()
    if task.label_names:
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    model.fit(batches, epochs=epochs, verbose=0)


def score(model: tf_keras.Model, task: Task, batches: Batches) -> float:
    """The metric of the task, times 100."""
    logits = model.predict(batches, verbose=0).logits
    found = np.argmax(logits, axis=1) if task.label_names else logits[:, 0]
    return 100 * float(task.metric(batches.labels, found))
