"""LeNet-300-100 in codebooks and codes, at 30 x fewer bytes (iPQ with our k-means).

    KPROJCLUST_DATA=folder python docs/experiments/lenet_codes.py choose [--seeds N]
    KPROJCLUST_DATA=folder python docs/experiments/lenet_codes.py test [--seeds N]

Layer after layer becomes codes, and after each the network is fine-tuned. As in
lenet_small.py, "choose" knows training images alone, and "test" looks at the test
images once. Rows are written to lenet_codes_choose.csv and lenet_codes_test.csv as they
come; a second call goes on where the first one stopped.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from lenet_held_out import Comparison, Result

from keras_messi import PQConfig, compress_in_groups
from keras_messi.cli.demo import HIDDEN_LAYERS, Digits, accuracy, distill
from keras_messi.models.adapter import family_of

CALIBRATION = 2000


@dataclass(frozen=True)
class Trial:
    """Blocks and codewords of both layers; weights of inputs, or not; epochs."""

    first_block: int
    first_codewords: int
    second_block: int
    second_codewords: int
    calibrated: str = "yes"
    epochs: int = 2
    seed: int = 0

    def configs(self) -> list[PQConfig]:
        """What to do with each layer."""
        return [
            PQConfig(self.first_block, self.first_codewords, seed=self.seed),
            PQConfig(self.second_block, self.second_codewords, seed=self.seed),
        ]


def run(model: keras.Model, data: Digits, trial: Trial) -> Result:
    """Code both hidden layers, one after the other, and fine-tune after each."""
    keras.utils.set_random_seed(trial.seed)
    before = []

    def fine_tune(small: keras.Model) -> None:
        before.append(accuracy(small, data.x_test, data.y_test))
        distill(small, model, data, trial.epochs)

    inputs = data.x_train[:CALIBRATION] if trial.calibrated == "yes" else None
    groups = [f"^{name}$" for name in HIDDEN_LAYERS]
    small, _ = compress_in_groups(
        model, trial.configs(), groups, fine_tune, calibration_data=inputs
    )
    return Result(
        family_of(small).stored_bytes(small),
        before[0],
        accuracy(small, data.x_test, data.y_test),
    )


# All at 30 x fewer bytes, or a little more.
SIZES = [(8, 64, 6, 32), (8, 64, 5, 32), (14, 128, 5, 32), (7, 32, 5, 32)]
CHOICES = [
    *(Trial(*size) for size in SIZES),
    Trial(*SIZES[0], calibrated="no"),
]
# Taken from "choose", where all are within what is chance.
CHOSEN = CHOICES[2]


def cells(trial: Trial, found: list[Result], right: float) -> list[Any]:
    """How the layers were coded, and what was lost once the first one was."""
    first = 100 * (right - np.mean([x.accuracy_before for x in found]))
    return [
        f"{trial.first_codewords} x {trial.first_block}",
        f"{trial.second_codewords} x {trial.second_block}",
        trial.calibrated,
        trial.epochs,
        f"{first:.2f}",
    ]


COMPARISON = Comparison(
    name="lenet_codes",
    title="LeNet-300-100 in codes",
    note="Layers are given as codewords x block size; each has one codebook for all "
    "its blocks.",
    trials={"choose": CHOICES, "test": [CHOSEN]},
    result=Result,
    run=run,
    columns=[
        "first layer",
        "second layer",
        "weights of inputs",
        "epochs after each",
        "first coded, lost",
    ],
    cells=cells,
)

if __name__ == "__main__":
    COMPARISON.main()
