"""LeNet-300-100: train it, compress its hidden layers, fine-tune, compare with SVD."""

import gzip
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from keras_messi.compression import compress
from keras_messi.configs import MessiConfig
from keras_messi.files import check_target, save_text
from keras_messi.models.keras.saving import save_model
from keras_messi.report import CompressionReport, format_table
from keras_messi.searching.curves import save_accuracy_curves

HIDDEN_LAYERS = ("fc1", "fc2")
RATES = (0.8, 0.9, 0.95, 0.97)
CLUSTER_COUNTS = (1, 2, 3, 4, 5)
# Share of the training digits that the best network may lose.
TOLERANCE = 0.01
# What scores are divided by before a network learns from them.
TEMPERATURE = 4.0


@dataclass(frozen=True)
class Digits:
    """Images of 28 x 28 pixels as rows, in training and test parts."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    batch_size: int


@dataclass(frozen=True)
class Trial:
    """One compressed and fine-tuned network; test accuracies unless named otherwise."""

    rate: float
    num_clusters: int
    parameters: int
    accuracy_before: float
    accuracy_after: float
    training_accuracy: float


def load_sklearn_digits() -> Digits:
    """scikit-learn's 1797 handwritten digits, scaled up to 28 x 28; no download."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, y = load_digits(return_X_y=True)
    images = zoom(images.reshape(-1, 8, 8) / 16, (1, 3.5, 3.5), order=1)
    x = images.reshape(-1, 784).astype("float32")
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.3, stratify=y, random_state=0
    )
    return Digits(x_train, y_train, x_test, y_test, batch_size=32)


def load_mnist(folder: Path) -> Digits:
    """MNIST from the four gzipped idx files that it is distributed in.

    Raises:
        FileNotFoundError: One of the files is missing.
    """
    arrays = {}
    for name, part in (("train", "train"), ("test", "t10k")):
        pixels = _read_idx(folder / f"{part}-images-idx3-ubyte.gz", offset=16)
        # The mean and spread of the training pixels, as is customary.
        x = (pixels.reshape(-1, 784) / np.float32(255) - 0.1307) / 0.3081
        arrays[f"x_{name}"] = x.astype("float32")
        labels = folder / f"{part}-labels-idx1-ubyte.gz"
        arrays[f"y_{name}"] = _read_idx(labels, offset=8)
    return Digits(**arrays, batch_size=128)


def _read_idx(path: Path, offset: int) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"`--data` must be a folder with {path.name}: {path}")
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)


def lenet_300_100() -> keras.Model:
    """The fully connected LeNet with hidden layers of 300 and 100 neurons."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(300, activation="relu", name="fc1"),
            keras.layers.Dense(100, activation="relu", name="fc2"),
            keras.layers.Dense(10, name="fc3"),
        ],
        name="lenet_300_100",
    )


def train(model: keras.Model, data: Digits, epochs: int) -> None:
    """Fit a classifier with Adam on the training part."""
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(data.x_train, data.y_train, data.batch_size, epochs=epochs, verbose=0)


def distill(small: keras.Model, model: keras.Model, data: Digits, epochs: int) -> None:
    """Fit what the uncompressed network says about the training part.

    The learning rate falls to zero. Labels are not looked at.

    Reference:
        - [Hinton et al., 2015](https://arxiv.org/abs/1503.02531)
    """
    soften = keras.layers.Rescaling(1 / TEMPERATURE)
    scores = model.predict(data.x_train, verbose=0)
    answers = keras.ops.convert_to_numpy(keras.ops.softmax(soften(scores)))
    steps = epochs * math.ceil(len(answers) / data.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    student = keras.Sequential([small, soften])
    student.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    student.fit(data.x_train, answers, data.batch_size, epochs=epochs, verbose=0)


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Share of the images that are classified right."""
    scores = keras.ops.convert_to_numpy(model(x, training=False))
    return float(np.mean(np.argmax(scores, axis=1) == y))


def run_trial(
    model: keras.Model,
    data: Digits,
    rate: float,
    num_clusters: int,
    *,
    epochs: int,
    seed: int,
) -> tuple[Trial, keras.Model, CompressionReport]:
    """Compress the hidden layers, distill, and measure before and after."""
    keras.utils.set_random_seed(seed)
    config = MessiConfig(rate=rate, num_clusters=num_clusters, scope="layer", seed=seed)
    with warnings.catch_warnings():
        # That the outputs change is what the table shows, and training mends.
        warnings.filterwarnings("ignore", "The outputs of the new model differ")
        small, report = compress(model, config, filters=HIDDEN_LAYERS)
    before = accuracy(small, data.x_test, data.y_test)
    distill(small, model, data, epochs)
    trial = Trial(
        rate=rate,
        num_clusters=num_clusters,
        parameters=report.parameters_after,
        accuracy_before=before,
        accuracy_after=accuracy(small, data.x_test, data.y_test),
        training_accuracy=accuracy(small, data.x_train, data.y_train),
    )
    return trial, small, report


def run_demo(data: Digits, folder: Path, *, overwrite: bool) -> str:
    """Compress LeNet-300-100 at several rates, and save the best network found.

    Writes `best.keras`, `report.json` and `curves.png` into the folder.

    Returns:
        The table of all trials and a summary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("best.keras", "report.json", "curves.png"):
        check_target(folder / name, Path(name).suffix, overwrite=overwrite)
    keras.utils.set_random_seed(0)
    model = lenet_300_100()
    train(model, data, epochs=20)
    baseline = accuracy(model, data.x_test, data.y_test)
    good_enough = accuracy(model, data.x_train, data.y_train) - TOLERANCE
    found = []
    grid = [(rate, k) for rate in RATES for k in CLUSTER_COUNTS]
    for rate, k in tqdm(grid, desc="compress and fine-tune", unit="network"):
        found.append(run_trial(model, data, rate, k, epochs=2, seed=0))
    trials = [trial for trial, _, _ in found]
    trial, small, report = max(found, key=lambda one: _merit(one[0], good_enough))
    save_model(small, folder / "best.keras", overwrite=overwrite)
    save_text(report.to_json(), folder / "report.json", overwrite=overwrite)
    save_accuracy_curves(trials, baseline, folder / "curves.png", "LeNet-300-100")
    return "\n\n".join(
        [
            f"LeNet-300-100, uncompressed: {100 * baseline:.2f} % of the test digits",
            format_trials(trials, baseline),
            f"Best, chosen on the training part: k = {trial.num_clusters} at "
            f"{100 * trial.rate:g} %, {100 * trial.accuracy_after:.2f} % of the test "
            f"digits, written with report and curves to {folder}/",
            str(report),
        ]
    )


def _merit(trial: Trial, good_enough: float) -> tuple[bool, float]:
    """Order of merit: the smallest network that is good enough in training.

    As in the paper's ensemble (Appendix D), the test part has no say.
    """
    if trial.training_accuracy >= good_enough:
        return True, -trial.parameters
    return False, trial.training_accuracy


def format_trials(trials: Sequence[Trial], baseline: float) -> str:
    """Table of the points lost, each beside those of the SVD at the same rate."""
    svd = {t.rate: t for t in trials if t.num_clusters == 1}
    heading = ["removed", "k", "parameters", "before", "after", "lost", "SVD lost"]
    rows = [
        [
            f"{100 * trial.rate:g} %",
            f"{trial.num_clusters}",
            f"{trial.parameters:,}",
            f"{100 * trial.accuracy_before:.2f} %",
            f"{100 * trial.accuracy_after:.2f} %",
            f"{100 * (baseline - trial.accuracy_after):.2f}",
            f"{100 * (baseline - svd[trial.rate].accuracy_after):.2f}",
        ]
        for trial in trials
    ]
    return format_table([heading, *rows])
