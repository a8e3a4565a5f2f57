"""VGG-19 on CIFAR-10 with smaller convolutions: points of accuracy lost.

    KPROJCLUST_DATA=folder python docs/experiments/vgg19_convolutions.py [--rates ...]

All convolutions from the second block on lose the same share of their numbers, the
dense layers none; nothing is fine-tuned. Rows are written to vgg19_convolutions.csv as
they come; a second call goes on where the first one stopped, and writes the table
vgg19_convolutions.md.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import keras
import numpy as np
from provenance import write_page
from rows import Rows
from vgg19_network import Split, accuracy, convolutions, dense_layers, images

from keras_messi import MessiConfig, compress

HERE = Path(__file__)
WHICH = r"block[2-5]_conv\d"
RATES = (0.3, 0.5)
SVD = "SVD of window x channels, filters"
METHODS = {
    SVD: None,
    "ours": {"scope": "layer"},
    "ours, calibrated": {"scope": "layer"},
}
CALIBRATION = 1000  # training images


@dataclass(frozen=True)
class Trial:
    """What is tried."""

    method: str
    rate: float


@dataclass(frozen=True)
class Result:
    """Numbers of the kernels, and the share of the test images that are right."""

    parameters: int
    accuracy: float


def decomposed(model: keras.Model, rate: float) -> tuple[keras.Model, int]:
    """A copy with kernels of low rank, and the numbers of their factors."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    parameters = 0
    for layer in chosen(copy):
        (kernel,) = layer.get_weights()
        matrix = kernel.reshape(-1, kernel.shape[-1])
        n, d = matrix.shape
        rank = round((1 - rate) * n * d / (n + d))
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
        low = (u[:, :rank] * s[:rank]) @ v[:rank]
        layer.set_weights([low.reshape(kernel.shape)])
        parameters += rank * (n + d)
    return copy, parameters


def chosen(model: keras.Model) -> list[keras.layers.Conv2D]:
    """The convolutions from the second block on."""
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    return [layer for layer in convolutions if layer.name >= "block2"]


def run(
    model: keras.Model, head: keras.Model, data: np.ndarray, test: Split, trial: Trial
) -> Result:
    """Make the convolutions smaller, and classify."""
    options = METHODS[trial.method]
    if options is None:
        small, parameters = decomposed(model, trial.rate)
    else:
        config = MessiConfig(rate=trial.rate, num_clusters=1, **options)
        calibrated = data if "calibrated" in trial.method else None
        small, report = compress(model, config, WHICH, calibration_data=calibrated)
        parameters = sum(x.parameters_after for x in report.replaced)
    inputs = keras.Input(model.input_shape[1:])
    return Result(parameters, accuracy(keras.Model(inputs, head(small(inputs))), test))


def table(results: dict[Trial, Result], before: float, numbers: int) -> str:
    """Points lost by method and rate."""
    lines = [
        "| removed | method | parameters | left | lost |",
        "|---|---|---|---|---|",
    ]
    for trial, found in results.items():
        lines.append(
            f"| {100 * trial.rate:g} % | {trial.method} | {found.parameters:,} | "
            f"{found.parameters / numbers:.1%} | "
            f"{100 * (before - found.accuracy):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    rates = sorted(parser.parse_args().rates)
    model, head = convolutions(), dense_layers()
    data, test = images("train").inputs[:CALIBRATION], images("test")
    rows = Rows(HERE.with_suffix(".csv"), Trial, Result)
    trials = [Trial(method, rate) for rate, method in product(rates, METHODS)]
    rows.complete(trials, partial(run, model, head, data, test))
    results = {trial: rows.results[trial] for trial in trials}
    whole = keras.Model(model.input, head(model.output))
    before, numbers = (
        accuracy(whole, test),
        sum(x.count_params() for x in chosen(model)),
    )
    text = (
        f"The convolutions from the second block on, of {numbers:,} numbers, each with "
        f"one cluster; uncompressed {100 * before:.2f} % of the 10,000 test images. "
        f"Not fine-tuned, one seed: differences below .3 are ties. Calibrated on "
        f"{CALIBRATION} training images.\n\n{table(results, before, numbers)}"
    )
    title = "VGG-19 on CIFAR-10 with smaller convolutions: points of accuracy lost"
    command = f"python docs/experiments/{HERE.name} --rates {' '.join(map(str, rates))}"
    write_page(HERE.with_suffix(".md"), title, text, command)


if __name__ == "__main__":
    main()
