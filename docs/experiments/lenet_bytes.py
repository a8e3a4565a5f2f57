"""LeNet-300-100 in 60 and 100 x fewer bytes: factors in a few bits, trained as such.

    KPROJCLUST_DATA=folder python docs/experiments/lenet_bytes.py choose [--seeds N]
    KPROJCLUST_DATA=folder python docs/experiments/lenet_bytes.py test [--seeds N]
    KPROJCLUST_DATA=folder python docs/experiments/lenet_bytes.py others [--seeds N]

Both hidden layers become factors with coordinates in 2 to 4 bits and bases in 4, the
last one takes 4 bits a number. Then the levels are trained for two epochs. As in
lenet_small.py, "choose" knows training images alone, and "test" looks at the test
images once, as "others" does for what else makes the network smaller. Rows are written
to lenet_bytes_choose.csv and so on as they come; a second call goes on where the first
one stopped.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras.distillation import Distiller, LogitsDistillation
from keras_gptq import gptq
from lenet_held_out import Comparison, Result
from lenet_trials import METHODS

from keras_messi import MessiConfig, RoundingConfig, compress, quantize
from keras_messi.cli.demo import HIDDEN_LAYERS, Digits, accuracy
from keras_messi.models.adapter import family_of

EPOCHS = 2
HEAD = RoundingConfig(bits=4, block_size=None)
CALIBRATION = 2000


@dataclass(frozen=True)
class Trial:
    """How both hidden layers are stored, and how the network is trained after it.

    A rate of 0 leaves all numbers, in so many bits. Labels count for so much of the
    loss, the answers of the uncompressed network for the rest.
    """

    method: str
    bits: int
    rate: float = 0.0
    num_clusters: int = 0
    epochs: int = EPOCHS
    labels: float = 0.9
    seed: int = 0


def run(model: keras.Model, data: Digits, trial: Trial) -> Result:
    """Store the network in a few bits, train its levels, and measure."""
    keras.utils.set_random_seed(trial.seed)
    small = SMALLER[trial.method](model, data, trial)
    before = accuracy(small, data.x_test, data.y_test)
    if trial.epochs:
        train_levels(small, model, data, trial)
    after = accuracy(small, data.x_test, data.y_test)
    return Result(family_of(small).stored_bytes(small), before, after)


def as_it_is(model: keras.Model, data: Digits, trial: Trial) -> keras.Model:
    """A copy of the network."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def by_keras(model: keras.Model, data: Digits, trial: Trial) -> keras.Model:
    """All layers by Keras, weights only."""
    return quantize(model, f"int{trial.bits}", ".*")


def by_gptq(model: keras.Model, data: Digits, trial: Trial) -> keras.Model:
    """All layers by GPTQ of Keras, each on the outputs of those before it."""
    x, layers = data.x_train[:CALIBRATION], []
    for layer in model.layers:
        layers.append(gptq(layer, x.T @ x / len(x), trial.bits))
        x = keras.ops.convert_to_numpy(layers[-1](x))
    return keras.Sequential([keras.Input(model.input_shape[1:]), *layers])


def rounded(model: keras.Model, data: Digits, trial: Trial) -> keras.Model:
    """All numbers of all layers in so many bits, on calibration images."""
    inputs, config = data.x_train[:CALIBRATION], RoundingConfig(trial.bits, None)
    small, _ = compress(model, config, HIDDEN_LAYERS, calibration_data=inputs)
    return compress(small, HEAD, calibration_data=inputs)[0]


def factored(model: keras.Model, data: Digits, trial: Trial) -> keras.Model:
    """Factors of both hidden layers in a few bits, and the last layer in 4."""
    config = MessiConfig(
        rate=trial.rate,
        num_clusters=trial.num_clusters,
        quantization=RoundingConfig(trial.bits, seed=trial.seed),
        seed=trial.seed,
        **METHODS[trial.method],
    )
    small, _ = compress(model, config, HIDDEN_LAYERS)
    return compress(small, HEAD)[0]


SMALLER = {
    "uncompressed": as_it_is,
    "Keras": by_keras,
    "Keras, GPTQ": by_gptq,
    "rounded": rounded,
    **dict.fromkeys(METHODS, factored),
}


def train_levels(
    small: keras.Model, model: keras.Model, data: Digits, trial: Trial
) -> None:
    """Fit labels and the answers of a network; the learning rate falls to zero."""
    for layer in small.layers:
        if hasattr(layer, "levels"):
            layer.train_levels()
    steps = trial.epochs * math.ceil(len(data.y_train) / data.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    likeness = LogitsDistillation(temperature=4.0, loss=keras.losses.KLDivergence())
    teacher = as_it_is(model, data, trial)
    distiller = Distiller(teacher, small, likeness, student_loss_weight=trial.labels)
    distiller.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    distiller.fit(
        data.x_train, data.y_train, data.batch_size, epochs=trial.epochs, verbose=0
    )


def cells(trial: Trial, found: list[Result], right: float) -> list[Any]:
    """How the layers are stored, and what that loses before training."""
    before = 100 * (right - sum(x.accuracy_before for x in found) / len(found))
    removed = f"{100 * trial.rate:g} %" if trial.rate else ""
    clusters = trial.num_clusters or ""
    trained = f"{trial.epochs}" if trial.epochs else "no"
    labels = trial.labels if trial.epochs else ""
    return [
        trial.method,
        trial.bits,
        removed,
        clusters,
        trained,
        labels,
        f"{before:.2f}",
    ]


def at_60(num_clusters: int, bits: int = 4, **options: Any) -> Trial:
    """A sixtieth of the bytes, or a little less."""
    rate = {4: 0.9125, 3: 0.9075}[bits]
    return Trial("ours", bits, rate, num_clusters, **options)


def at_100(num_clusters: int, bits: int = 3, **options: Any) -> Trial:
    """A hundredth of the bytes, or a little less."""
    rate = {3: 0.96, 2: 0.9575}[bits]
    return Trial("ours", bits, rate, num_clusters, **options)


CHOICES = [
    *(at(k) for k in (5, 8) for at in (at_60, at_100)),
    at_100(8, labels=0.5),
    at_100(8, bits=2),
]
# Taken from "choose", where those of a size are within what is chance.
CHOSEN = [at_60(8), at_100(8)]
# The singular value decomposition with as many bytes, equal ranks, and less training.
WITHOUT_TRAINING = [("Keras", 8), ("Keras", 4), ("Keras, GPTQ", 4), ("Keras, GPTQ", 2)]
OTHERS = [
    Trial("SVD", 4, 0.92, 1),
    Trial("SVD", 4, 0.96, 1),
    *(replace(trial, method="MESSI") for trial in CHOSEN),
    Trial("uncompressed", 32),
    *(Trial(method, bits, epochs=0) for method, bits in WITHOUT_TRAINING),
    Trial("rounded", 2, epochs=0),
    Trial("rounded", 1),
]

COMPARISON = Comparison(
    name="lenet_bytes",
    title="LeNet-300-100 in 60 and 100 x fewer bytes",
    note="Bytes are those of all weights in the saved file: packed levels, scales, ids "
    "of clusters and biases; the most of the seeds.",
    trials={"choose": CHOICES, "test": CHOSEN, "others": OTHERS},
    result=Result,
    run=run,
    columns=[
        "method",
        "bits",
        "removed",
        "k",
        "epochs",
        "share of labels",
        "lost before training",
    ],
    cells=cells,
)

if __name__ == "__main__":
    COMPARISON.main()
