"""The families of models: how each is opened, changed, and kept on disk."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from keras_messi import huggingface
from keras_messi.altered import all_layers
from keras_messi.folding import fold_permutations
from keras_messi.observing import observe_layers
from keras_messi.report import FoldedLayer, count_parameters, stored_bytes
from keras_messi.saving import check_target, load_model, save_model, saved_size
from keras_messi.surgery import Surgery, find_layers, replace_layers


class Family(NamedTuple):
    """What is done with the models of one kind.

    Attributes:
        surgery: How layers are found and replaced.
        fold: Spares new layers their cluster ids where the layer before can.
        load: Gives the model at a path.
        check_target: Raises an error unless a model can be written to a path.
        save: Writes a model to a path; what the path of the original, if there is
            one, holds besides weights, such as a tokenizer, comes along.
        suffix: What the path of a model ends in.
    """

    surgery: Surgery
    fold: Callable[[Any], tuple[Any, list[FoldedLayer]]]
    load: Callable[[Path], Any]
    check_target: Callable[[Path, bool], Any]
    save: Callable[[Any, Path, Path | None, bool], None]
    suffix: str


def family_of(model: Any) -> Family:
    """The family of a model."""
    # Keras's refuses what is no model at all.
    return _TRANSFORMERS if huggingface.framework_of(model) else _KERAS


def family_at(path: str | os.PathLike[str]) -> Family:
    """The family of the model in a file or folder."""
    return _TRANSFORMERS if Path(path).is_dir() else _KERAS


def _stored_bytes(model: Any) -> int:
    return stored_bytes(all_layers(model))


def _fold_nothing(model: Any) -> tuple[Any, list[FoldedLayer]]:
    # The code of a model of transformers does not tell what follows what.
    return model, []


def _check_file(path: Path, overwrite: bool) -> None:
    check_target(path, ".keras", overwrite=overwrite)


def _save_file(model: Any, path: Path, original: Path | None, overwrite: bool) -> None:
    save_model(model, path, overwrite=overwrite)


_KERAS = Family(
    Surgery(
        find_layers,
        replace_layers,
        count_parameters,
        _stored_bytes,
        saved_size,
        observe_layers,
    ),
    fold_permutations,
    load_model,
    _check_file,
    _save_file,
    ".keras",
)
_TRANSFORMERS = Family(
    huggingface.SURGERY,
    _fold_nothing,
    huggingface.from_pretrained,
    huggingface.check_target,
    huggingface.save,
    "",
)
