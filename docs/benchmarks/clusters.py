"""What one cluster more takes, and what it gives, at a rate of 90 %.

    python docs/benchmarks/clusters.py

Times are of LiteRT files with one thread, at 1 and at 32 rows of inputs, each over that
of one cluster in the same round; errors are over that of one cluster as well. The page
is written at the end, in some minutes.
"""

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

from deployment_networks import NETWORKS
from real_data import minilm_folder
from safetensors.numpy import load_file

from keras_messi import MessiConfig, compress, export

COUNTS = (1, 2, 3, 5, 8, 12, 18, 26, 32)
BATCHES = (1, 32)
ROUNDS = 41
# Networks by the layer that is compressed.
LAYERS = {"words": "text classifier", "fc1": "LeNet-300-100"}


def _small(layer: str, k: int) -> tuple[keras.Model, float]:
    """A network with k clusters in a layer, and the error of that."""
    model = NETWORKS[LAYERS[layer]].build()
    config = MessiConfig(rate=0.9, num_clusters=k, side="inputs")
    small, report = compress(model, config, f"^{layer}$")
    return small, report.replaced[0].relative_error


def _timer(model: keras.Model, inputs: np.ndarray) -> Callable[[], float]:
    """Gives the seconds of a call of an exported model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        export(model, path)
        interpreter = tf.lite.Interpreter(
            model_content=path.read_bytes(), num_threads=1
        )
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, inputs.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, inputs)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(20):
            interpreter.invoke()
        return (time.perf_counter() - start) / 20

    return run


def _times(models: dict[int, keras.Model], inputs: np.ndarray) -> dict[int, float]:
    """Times over that of one cluster, medians of rounds in which all take turns."""
    timers = {k: _timer(model, inputs) for k, model in models.items()}
    rounds = np.array([[run() for run in timers.values()] for _ in range(ROUNDS)])
    return dict(zip(timers, np.median(rounds / rounds[:, :1], axis=0), strict=True))


def _minilm_errors() -> dict[int, float]:
    """Errors of every fourth row of the word table of MiniLM."""
    weights = load_file(minilm_folder() / "model.safetensors")
    name = next(x for x in weights if x.endswith("word_embeddings.weight"))
    table = weights[name][::4]
    layer = keras.layers.Embedding(*table.shape, name="words")
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
    layer.set_weights([table])
    return {
        k: compress(model, MessiConfig(0.9, k), "words")[1].replaced[0].relative_error
        for k in COUNTS
    }


def columns() -> dict[str, dict[int, float]]:
    """Columns of the table by their heads."""
    found: dict[str, dict[int, float]] = {}
    for layer, network in LAYERS.items():
        made = {k: _small(layer, k) for k in COUNTS}
        for batch in BATCHES:
            (inputs,) = NETWORKS[network].inputs(batch).values()
            models = {k: model for k, (model, _) in made.items()}
            found[f"{network}, time at {batch}"] = _times(models, inputs)
        errors = {k: error / made[1][1] for k, (_, error) in made.items()}
        found[f"{network}, error"] = errors
    errors = _minilm_errors()
    found["MiniLM words, error"] = {k: x / errors[1] for k, x in errors.items()}
    return found


def main() -> None:
    """Measure, and write the page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that outputs change much
        found = columns()
    lines = [
        "# What one cluster more takes",
        "",
        *(__doc__ or "").strip().splitlines()[4:],
        "",
        "| k | " + " | ".join(found) + " |",
        "|---|" + "---|" * len(found),
    ]
    for k in COUNTS:
        cells = " | ".join(f"{column[k]:.2f}" for column in found.values())
        lines.append(f"| {k} | {cells} |")
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
