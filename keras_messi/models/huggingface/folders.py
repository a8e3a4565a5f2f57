"""Folders with a compressed model of transformers: config.json and the weights."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_messi.files import replaced_atomically

CONFIG = "config.json"
# No name that transformers looks for: it would take the weights that it knows from the
# file, and random ones for the factored layers.
WEIGHTS = "messi.safetensors"

_PLAIN_WEIGHTS = ("*.h5", "model*.safetensors", "pytorch_model*.bin")

SaveFile = Callable[[dict[str, Any], Path], None]


def write(
    folder: str | os.PathLike[str],
    config: Any,
    tensors: dict[str, Any],
    save_file: SaveFile,
) -> None:
    """Write config and weights, both beside their places before either is renamed.

    Raises:
        FileExistsError: The folder is a file, or holds weights of a plain model, which
            would not go with the config.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plain = [file.name for pattern in _PLAIN_WEIGHTS for file in folder.glob(pattern)]
    if plain:
        raise FileExistsError(
            "the output folder must not hold weights of another model. Received: "
            f"{folder}, with {', '.join(sorted(plain))}"
        )
    with (
        replaced_atomically(folder / CONFIG) as config_file,
        replaced_atomically(folder / WEIGHTS) as weights_file,
    ):
        save_file(tensors, weights_file)
        config.to_json_file(config_file)


def size(config: Any, tensors: dict[str, Any], save_file: SaveFile) -> int:
    """Size in bytes of the files that `write` writes."""
    with tempfile.TemporaryDirectory() as folder:
        write(folder, config, tensors, save_file)
        return sum(file.stat().st_size for file in Path(folder).iterdir())


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The entries of config.json.

    Raises:
        FileNotFoundError: There is no such folder, or no config.json in it.
        ValueError: config.json is damaged.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"`folder` must be a folder with a {CONFIG}. Received: {folder}"
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`folder` has a damaged {CONFIG}: {path}: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"`folder` has a {CONFIG} that is no JSON object: {path}")
    return entries


def read_weights(
    folder: str | os.PathLike[str], load_file: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """The weights of a compressed model by name.

    Raises:
        ValueError: The file is missing or damaged.
    """
    from safetensors import SafetensorError

    path = Path(folder) / WEIGHTS
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise ValueError(
            f"`folder` must hold the weights of the compressed model, {WEIGHTS}. "
            f"Received: {folder}, without it"
        ) from error
    except SafetensorError as error:
        raise ValueError(f"`folder` has damaged weights: {path}: {error}") from error
