"""Write a compressed model of transformers to where a plain one was read from."""

import shutil
from pathlib import Path
from typing import Any

from keras_messi.files import check_target_folder
from keras_messi.models.huggingface.folders import CONFIG, INDEX, WEIGHTS

# What else than a config and weights no copy needs.
_WEIGHTS = {".bin", ".h5", ".msgpack", ".onnx", ".ot", ".safetensors"}


def check_target(folder: Path, overwrite: bool) -> None:
    """Raise an error unless a compressed model can be written to a folder."""
    mark = INDEX if (folder / INDEX).exists() else WEIGHTS
    check_target_folder(folder, mark, overwrite=overwrite)


def save(model: Any, folder: Path, original: Path | None, overwrite: bool) -> None:
    """Write a compressed model, and the tokenizer and such of the original.

    Args:
        model: A compressed model of transformers.
        folder: Where to.
        original: The folder of the original, if there is one.
        overwrite: Whether a compressed model may be replaced.

    Raises:
        FileExistsError: The folder exists, and `overwrite` is False or it holds no
            compressed model.
    """
    check_target(folder, overwrite)
    model.save_pretrained(folder)
    for file in original.iterdir() if original else []:
        is_ours = file.name == CONFIG or file.suffix in _WEIGHTS
        is_ours = is_ours or file.name.endswith(".index.json")
        if file.is_file() and not is_ours:
            shutil.copyfile(file, folder / file.name)
