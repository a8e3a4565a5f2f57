"""One LeNet-300-100, compressed in one way, fine-tuned in one way, and measured."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_messi import MessiConfig, compress
from keras_messi.cli.demo import HIDDEN_LAYERS, Digits, accuracy, distill, train
from keras_messi.models.keras.sizes import count_parameters

EPOCHS = 2

# Method, and how it is asked for.
METHODS: dict[str, dict[str, Any]] = {
    "SVD": {"ranks": "uniform"},
    "k-means": {"ranks": "uniform", "clustering": "k-means"},
    "MESSI": {"ranks": "uniform"},
    "ours": {"ranks": "budget", "scope": "layer"},
    "ours, calibrated": {"ranks": "budget", "scope": "layer"},
    "ours, shared": {"ranks": "budget", "scope": "model"},
}
# Training images that calibrated methods look at.
CALIBRATION = 2000


@dataclass(frozen=True)
class Trial:
    """What is tried; the recipe, plain or distilled, is that of the fine-tuning."""

    method: str
    num_clusters: int
    rate: float
    recipe: str = "plain"
    seed: int = 0

    def config(self) -> MessiConfig:
        """How `compress` is told so."""
        return MessiConfig(
            rate=self.rate,
            num_clusters=self.num_clusters,
            seed=self.seed,
            **METHODS[self.method],
        )


@dataclass(frozen=True)
class Result:
    """What came of it: numbers of the whole network, and shares of the images."""

    parameters: int
    accuracy_before: float
    accuracy_after: float


def fine_tuned(
    model: keras.Model, data: Digits, trial: Trial
) -> tuple[keras.Model, float]:
    """The network of a trial, and its accuracy before the fine-tuning."""
    keras.utils.set_random_seed(trial.seed)
    inputs = data.x_train[:CALIBRATION] if "calibrated" in trial.method else None
    small, _ = compress(model, trial.config(), HIDDEN_LAYERS, calibration_data=inputs)
    before = accuracy(small, data.x_test, data.y_test)
    if trial.recipe == "distilled":
        distill(small, model, data, EPOCHS)
    else:
        train(small, data, EPOCHS)
    return small, before


def run(model: keras.Model, data: Digits, trial: Trial) -> Result:
    """Compress both hidden layers, fine-tune, and measure before and after."""
    small, before = fine_tuned(model, data, trial)
    after = accuracy(small, data.x_test, data.y_test)
    return Result(count_parameters(small), before, after)
