"""Saved models, read and run in a process that has not seen them before."""

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np


def outputs_elsewhere(path: Path, inputs: Any) -> list[np.ndarray]:
    """Outputs of a saved model, computed by another process, the same for all."""
    return _process().submit(_outputs, path, inputs).result()


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _outputs(path: Path, inputs: Any) -> list[np.ndarray]:
    import keras

    from keras_messi.models.adapter import family_at, outputs_of

    if keras.backend.backend() == "tensorflow":
        import keras_hub  # noqa: F401 - its layers are known by name then

    family = family_at(path)
    return list(outputs_of(family, family.load(path), inputs))
