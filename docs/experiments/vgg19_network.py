"""VGG-19 on CIFAR-10: the trained network, the images, and what its convolutions give.

The network of the data folder is right on 81.1 % of the test images, which are a copy
in JPEG; it was trained for three epochs. Networks trained for hundreds on the original
images are known for about 93 %.
"""

import io
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from PIL import Image
from real_data import data_folder
from tqdm import tqdm

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
# Of blue, green and red, which the network takes off its inputs, 0 to 255.
MEANS = np.array([104.00699, 116.66877, 122.67892], np.float32)
BATCH_SIZE = 250


class Split(NamedTuple):
    """Inputs, images or features, and labels."""

    inputs: np.ndarray
    labels: np.ndarray


def images(split: str) -> Split:
    """The `"train"` or `"test"` images as the network takes them: `(n, 32, 32, 3)`."""
    with np.load(data_folder() / "cifar10" / "cifar10_jpeg.npz") as file:
        content, ends = file[f"{split}_jpeg"], file[f"{split}_offset"]
        labels = file[f"{split}_label"].astype("int32")
    pictures = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(content[start:end].tobytes())))
            for start, end in zip(ends[:-1], ends[1:], strict=True)
        ]
    )
    return Split(pictures[..., ::-1] - MEANS, labels)


def convolutions() -> keras.Model:
    """The convolutions of the trained network: from images to 512 features."""
    inputs = x = keras.Input((32, 32, 3))
    for block, (count, filters) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            name = f"block{block}_conv{i}"
            x = keras.layers.Conv2D(
                filters, 3, padding="same", use_bias=False, name=name
            )(x)
            x = keras.layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
            x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D()(x)
    model = keras.Model(inputs, keras.layers.Flatten()(x), name="convolutions")
    with np.load(data_folder() / "networks" / "vgg19_cifar10.npz") as weights:
        for layer in model.layers:
            if isinstance(layer, keras.layers.Conv2D):
                name = layer.name.replace("_", ".")
                kernel = weights[f"{name}.weight"].astype(np.float32)
                layer.set_weights([kernel.transpose(2, 3, 1, 0)])
                parts = ("gamma", "beta", "mean", "variance")
                norm = model.get_layer(f"{layer.name}_bn")
                norm.set_weights([weights[f"{name}.bn_{part}"] for part in parts])
    return model


def dense_layers() -> keras.Model:
    """The dense layers of the trained network: from 512 features to ten logits."""
    model = keras.Sequential(
        [
            keras.Input((512,)),
            keras.layers.Dense(512, activation="relu", name="fc1"),
            keras.layers.Dense(512, activation="relu", name="fc2"),
            keras.layers.Dense(10, name="fc3"),
        ],
        name="dense_layers",
    )
    with np.load(data_folder() / "networks" / "vgg19_cifar10.npz") as weights:
        for layer in model.layers:
            kernel = weights[f"{layer.name}.weight"]
            layer.set_weights([kernel.T, weights[f"{layer.name}.bias"]])
    return model


def features(folder: Path, split: str) -> Split:
    """What the dense layers receive; it takes minutes, and is kept in a folder."""
    path = folder / f"vgg19_features_{split}.npz"
    if not path.exists():
        model, (inputs, labels) = convolutions(), images(split)
        found = [
            model.predict_on_batch(inputs[i : i + BATCH_SIZE])
            for i in tqdm(range(0, len(inputs), BATCH_SIZE), mininterval=10)
        ]
        np.savez(path, features=np.concatenate(found), labels=labels)
    with np.load(path) as file:
        return Split(file["features"], file["labels"])


def accuracy(model: keras.Model, data: Split) -> float:
    """Share of the inputs that are classified right."""
    logits = model.predict(data.inputs, batch_size=BATCH_SIZE, verbose=0)
    return float(np.mean(np.argmax(logits, axis=1) == data.labels))
