"""LeNet-300-100 at 20 x fewer numbers and at 30 x fewer bytes.

    KPROJCLUST_DATA=folder python docs/experiments/lenet_small.py choose [--seeds N]
    KPROJCLUST_DATA=folder python docs/experiments/lenet_small.py test [--seeds N]

The first sets choices side by side on training images alone: on a network that is
trained without the last 10,000 of them, and judged on these. The second takes what was
chosen, and looks at the test images once. Rows are written to lenet_small_choose.csv
and lenet_small_test.csv as they come; a second call goes on where the first one
stopped, and writes the table of that name.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from lenet_held_out import Comparison
from lenet_trials import Result, Trial, fine_tuned

from keras_messi import quantize
from keras_messi.cli.demo import Digits, accuracy
from keras_messi.models.adapter import family_of
from keras_messi.models.keras.sizes import count_parameters


@dataclass(frozen=True)
class StoredTrial(Trial):
    """What is tried; once fine-tuned, the factors are stored in such numbers."""

    mode: str = "float32"


@dataclass(frozen=True)
class StoredResult(Result):
    """What came of it; bytes of all weights of the network as stored."""

    stored_bytes: int


def run(model: keras.Model, data: Digits, trial: StoredTrial) -> StoredResult:
    """Compress both hidden layers, fine-tune, store, and measure what is stored."""
    small, before = fine_tuned(model, data, trial)
    numbers = count_parameters(small)
    if trial.mode != "float32":
        small = quantize(small, trial.mode)
    return StoredResult(
        parameters=numbers,
        accuracy_before=before,
        accuracy_after=accuracy(small, data.x_test, data.y_test),
        stored_bytes=family_of(small).stored_bytes(small),
    )


FEWER_NUMBERS = partial(StoredTrial, rate=0.95, recipe="distilled")
FEWER_BYTES = partial(StoredTrial, rate=0.9, recipe="distilled", mode="int8")

CHOICES = [
    *(FEWER_NUMBERS("ours", k) for k in (2, 3, 5, 10)),
    *(FEWER_NUMBERS(method, 5) for method in ("ours, shared", "ours, calibrated")),
    *(FEWER_NUMBERS("ours", k, recipe="plain") for k in (5, 10)),
    *(FEWER_BYTES("ours", k) for k in (5, 10)),
    *(FEWER_BYTES("ours", k, rate=0.81, mode="int4") for k in (5, 10)),
]
OTHERS = [("SVD", 1), ("k-means", 5), ("MESSI", 5)]
TESTS = [
    *(FEWER_NUMBERS(*kind) for kind in [*OTHERS, ("ours", 5)]),
    *(FEWER_BYTES(*kind) for kind in [*OTHERS, ("ours", 10)]),
]


def cells(trial: StoredTrial, found: list[StoredResult], right: float) -> list[Any]:
    """How the network was made smaller, and the most numbers it has."""
    return [
        trial.method,
        trial.num_clusters,
        f"{100 * trial.rate:g} %",
        trial.recipe,
        trial.mode,
        f"{max(x.parameters for x in found):,}",
    ]


COMPARISON = Comparison(
    name="lenet_small",
    title="LeNet-300-100 as small as it gets",
    note="Numbers and bytes are those of the whole network, the most of the seeds.",
    trials={"choose": CHOICES, "test": TESTS},
    result=StoredResult,
    run=run,
    columns=["method", "k", "removed", "fine-tuning", "stored as", "numbers"],
    cells=cells,
)

if __name__ == "__main__":
    COMPARISON.main()
