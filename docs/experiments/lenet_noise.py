"""LeNet-300-100 trained with Quant-Noise, then coded, and not trained any more.

    KPROJCLUST_DATA=folder python docs/experiments/lenet_noise.py choose [--seeds N]
    KPROJCLUST_DATA=folder python docs/experiments/lenet_noise.py test [--seeds N]

The trained network is trained on with labels, with and without noise on both hidden
layers; then these become codes. "choose" knows training images alone, and "test" looks
at the test images once. Rows are written to lenet_noise_choose.csv and
lenet_noise_test.csv as they come; a second call goes on where the first one stopped.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from lenet_held_out import Comparison, Result

from keras_messi import PQConfig, compress
from keras_messi.cli.demo import HIDDEN_LAYERS, Digits, accuracy
from keras_messi.models.adapter import family_of
from keras_messi.training import (
    RefitCodewords,
    add_codeword_noise,
    add_quant_noise,
    remove_quant_noise,
)

BLOCK_SIZE = 4
EPOCHS = 3


@dataclass(frozen=True)
class Trial:
    """Noise of the training, and codewords of each layer after it."""

    noise: str
    rate: float
    num_codewords: int
    seed: int = 0

    def put_into(self, model: keras.Model) -> keras.Model:
        """A copy of a network that trains with this noise."""
        options = {"rate": self.rate, "block_size": BLOCK_SIZE, "seed": self.seed}
        if self.noise == "codewords":
            options["num_codewords"] = self.num_codewords
            return add_codeword_noise(model, HIDDEN_LAYERS, **options)
        return add_quant_noise(model, HIDDEN_LAYERS, **options)


def run(model: keras.Model, data: Digits, trial: Trial) -> Result:
    """Train with noise, take it out, and put codes in place of both hidden layers."""
    keras.utils.set_random_seed(trial.seed)
    noisy = trial.put_into(model)
    callbacks = [RefitCodewords()] if trial.noise == "codewords" else []
    train_on(noisy, data, callbacks)
    trained = remove_quant_noise(noisy)
    config = PQConfig(BLOCK_SIZE, trial.num_codewords, seed=trial.seed)
    small, _ = compress(trained, config, HIDDEN_LAYERS)
    return Result(
        family_of(small).stored_bytes(small),
        accuracy(trained, data.x_test, data.y_test),
        accuracy(small, data.x_test, data.y_test),
    )


def train_on(model: keras.Model, data: Digits, callbacks: list[Any]) -> None:
    """Fit with Adam, at a learning rate that falls to zero."""
    steps = EPOCHS * math.ceil(len(data.y_train) / data.batch_size)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        data.x_train,
        data.y_train,
        data.batch_size,
        epochs=EPOCHS,
        verbose=0,
        callbacks=callbacks,
    )


def kinds(rates: dict[str, list[float]]) -> list[Trial]:
    """Every noise at its rates; without noise at a rate of zero."""
    pairs = [(noise, rate) for noise, found in rates.items() for rate in found]
    return [
        Trial(*pair, num_codewords=size) for size in NUM_CODEWORDS for pair in pairs
    ]


NUM_CODEWORDS = (8, 32)
RATES = {"none": [0.0], "missing": [0.05, 0.1, 0.3], "codewords": [0.05, 0.1, 0.3]}
# Taken from "choose": the best rate of each noise over both sizes.
CHOSEN = {"none": [0.0], "missing": [0.3], "codewords": [0.3]}


def cells(trial: Trial, found: list[Result], right: float) -> list[Any]:
    """How the network was trained, and what that lost or won by itself."""
    trained = 100 * (right - np.mean([x.accuracy_before for x in found]))
    return [
        f"{trial.num_codewords} x {BLOCK_SIZE}",
        trial.noise,
        trial.rate,
        f"{trained:.2f}",
    ]


COMPARISON = Comparison(
    name="lenet_noise",
    title="LeNet-300-100 trained with noise",
    note=f"{EPOCHS} epochs with missing blocks, with codewords in their place, or with "
    "neither; then both hidden layers become codes, given as codewords x block size, "
    "and are not trained any more.",
    trials={"choose": kinds(RATES), "test": kinds(CHOSEN)},
    result=Result,
    run=run,
    columns=["codes", "noise", "rate", "trained, lost"],
    cells=cells,
)

if __name__ == "__main__":
    COMPARISON.main()
