"""Carry the training of VGG-19 on CIFAR-10 on, from the network of the data folder.

    KERAS_BACKEND=torch KPROJCLUST_DATA=folder python docs/experiments/vgg19_training.py
        --folder checkpoints [--epochs 1]

Stochastic gradient descent with momentum, its learning rate falling along a cosine, on
images that are flipped and shifted. After each round of steps a checkpoint is
written to the folder, and the share of test images that are right is printed; a second
call goes on at the last one. On two idle cores an epoch takes some 20 minutes with
PyTorch, and about twice as long with TensorFlow.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from vgg19_network import Split, accuracy, convolutions, dense_layers, images

BATCH_SIZE, ROUND = 64, 50  # images of a step, steps of a round
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
SHIFT = 4  # places, to each side


def network() -> keras.Model:
    """Convolutions and dense layers in one model."""
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, dense_layers()(convolutions()(inputs)), name="vgg19")


def augmented(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each picture shifted by up to some places, and half of them flipped."""
    size = pictures.shape[1]
    edges = ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0))
    padded = np.pad(pictures, edges)
    places = rng.integers(0, 2 * SHIFT + 1, (len(pictures), 2))
    flips = rng.choice([-1, 1], len(pictures))
    cut = [
        x[i : i + size, j : j + size][:, ::flip]
        for x, (i, j), flip in zip(padded, places, flips, strict=True)
    ]
    return np.stack(cut)


def train(model: keras.Model, data: Split, test: Split, folder: Path, steps: int):
    """Train for so many steps in all, from the last checkpoint on."""
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    model.compile(
        keras.optimizers.SGD(schedule, MOMENTUM, weight_decay=WEIGHT_DECAY),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    path = folder / "vgg19.keras"
    if path.exists():
        model = keras.models.load_model(path)
    while (done := int(model.optimizer.iterations)) < steps:
        rng = np.random.default_rng(done)  # a second call draws what one would have
        losses = []
        for _ in range(min(ROUND, steps - done)):
            some = rng.integers(0, len(data.labels), BATCH_SIZE)
            batch = augmented(data.inputs[some], rng)
            losses.append(float(model.train_on_batch(batch, data.labels[some])))
        model.save(path)
        print(f"step {done + len(losses)}: loss {losses[-1]:.3f}", flush=True)
    print(f"{100 * accuracy(model, test):.2f} % of the test images", flush=True)


def main() -> None:
    """Train, and say how many of the test images are right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="of checkpoints")
    parser.add_argument("--epochs", type=float, default=1)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    data, test = images("train"), images("test")
    steps = round(asked.epochs * len(data.labels) / BATCH_SIZE)
    train(network(), data, test, asked.folder, steps)


if __name__ == "__main__":
    main()
