"""Calibration data from files: arrays, or lines of text for models with a tokenizer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

BATCH_SIZE = 64
# Word pieces of a line that are read.
MAX_LENGTH = 128


def read_calibration(path: Path, model_path: Path) -> Any:
    """What `compress` takes as `calibration_data`.

    Args:
        path: A .npy or .npz file of arrays, or a .txt file with a text on each line.
        model_path: File or folder of the model. For texts it must be a folder with a
            tokenizer.

    Raises:
        ValueError: The file holds no numbers and no text, or the model has no
            tokenizer.
    """
    if path.suffix == ".txt":
        return list(_batches_of_tokens(path, model_path))
    return _read_arrays(path)


def _batches_of_tokens(path: Path, folder: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise ValueError(
            f"`--calibration` must have a text on each line. Received: {path}, which "
            "has none"
        )
    if not folder.is_dir():
        raise ValueError(
            "`--calibration` must be a .npy or .npz file for a model that is no folder "
            f"of Hugging Face transformers. Received: {path}"
        )
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(
            "`--calibration` must be a .npy or .npz file for a model without a "
            f"tokenizer. Received: {path}"
        ) from error
    options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH}
    for chosen in _batches(texts):
        batch = tokenizer(chosen, return_tensors="np", **options)
        yield {name: array.astype("int32") for name, array in batch.items()}


def _batches(texts: list[str]) -> Iterator[list[str]]:
    """A batch of any texts, as outputs are compared on the first; then by length."""
    import numpy as np

    order = np.random.default_rng(0).permutation(len(texts))
    first, rest = order[:BATCH_SIZE], order[BATCH_SIZE:]
    yield [texts[i] for i in first]
    by_length = sorted((texts[i] for i in rest), key=len)
    for start in range(0, len(by_length), BATCH_SIZE):
        yield by_length[start : start + BATCH_SIZE]


def _read_arrays(path: Path) -> Any:
    import numpy as np

    try:
        found = np.load(path)
    except (EOFError, ValueError) as error:
        raise ValueError(
            f"`--calibration` must be a .npy or .npz file of numbers, or a .txt file. "
            f"Received: {path}"
        ) from error
    return found if isinstance(found, np.ndarray) else dict(found)
