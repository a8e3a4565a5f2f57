"""Folders with a compressed model of transformers: config.json and the weights."""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from keras_messi.files import replaced_atomically
from keras_messi.layers._checks import check_positive

CONFIG = "config.json"
# No name that transformers looks for: it would take the weights that it knows from the
# file, and random ones for the factored layers.
WEIGHTS = "messi.safetensors"
# Of weights in several files: which file each is in, as transformers has it.
INDEX = "messi.safetensors.index.json"
_SHARD = "messi{suffix}.safetensors"
_SHARDS = "messi-*-of-*.safetensors"

_PLAIN_WEIGHTS = ("*.h5", "model*.safetensors", "pytorch_model*.bin")

SaveFile = Callable[[dict[str, Any], Path], None]


def write(
    folder: str | os.PathLike[str],
    config: Any,
    tensors: dict[str, Any],
    save_file: SaveFile,
    max_shard_size: int | str | None = None,
) -> None:
    """Write config and weights, all beside their places before any is renamed.

    Raises:
        FileExistsError: The folder is a file, or holds weights of a plain model, which
            would not go with the config.
        ValueError: `max_shard_size` is not what `save_pretrained` takes.
    """
    folder = Path(folder)
    shards, index = _shards(tensors, max_shard_size)
    folder.mkdir(parents=True, exist_ok=True)
    plain = [file.name for pattern in _PLAIN_WEIGHTS for file in folder.glob(pattern)]
    if plain:
        raise FileExistsError(
            "the output folder must not hold weights of another model. Received: "
            f"{folder}, with {', '.join(sorted(plain))}"
        )
    with ExitStack() as stack:

        def beside(name: str) -> Path:
            return stack.enter_context(replaced_atomically(folder / name))

        config.to_json_file(beside(CONFIG))
        if index is not None:
            beside(INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
        for name, shard in shards.items():
            save_file(shard, beside(name))
    for file in [folder / INDEX, folder / WEIGHTS, *folder.glob(_SHARDS)]:
        if file.name not in shards and (index is None or file.name != INDEX):
            file.unlink(missing_ok=True)


Shards = dict[str, dict[str, Any]]


def _shards(
    tensors: dict[str, Any], max_shard_size: int | str | None
) -> tuple[Shards, dict[str, Any] | None]:
    """The tensors of each file, and the index of the files if there are several."""
    if max_shard_size is None:
        return {WEIGHTS: tensors}, None
    from huggingface_hub import split_state_dict_into_shards_factory

    if not isinstance(max_shard_size, str):
        check_positive("max_shard_size", max_shard_size)
    try:
        split = split_state_dict_into_shards_factory(
            tensors,
            get_storage_size=lambda tensor: tensor.nbytes,
            filename_pattern=_SHARD,
            max_shard_size=max_shard_size,
        )
    except ValueError as error:
        raise ValueError(
            '`max_shard_size` must be a number of bytes, or a string such as "5MB". '
            f"Received: max_shard_size={max_shard_size!r}"
        ) from error
    shards = {
        file: {name: tensors[name] for name in names}
        for file, names in split.filename_to_tensors.items()
    }
    if not split.is_sharded:
        return shards, None
    return shards, {
        "metadata": split.metadata,
        "weight_map": split.tensor_to_filename,
    }


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

    tensors: dict[str, Any] = {}
    for name in _files_of_weights(Path(folder)):
        path = Path(folder) / name
        try:
            tensors |= load_file(path)
        except FileNotFoundError as error:
            raise ValueError(
                f"`folder` must hold the weights of the compressed model, {name}. "
                f"Received: {folder}, without it"
            ) from error
        except SafetensorError as error:
            raise ValueError(
                f"`folder` has damaged weights: {path}: {error}"
            ) from error
    return tensors


def _files_of_weights(folder: Path) -> list[str]:
    path = folder / INDEX
    if not path.exists():
        return [WEIGHTS]
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        return sorted(set(index["weight_map"].values()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"`folder` has a damaged {INDEX}: {path}: {error}") from error
