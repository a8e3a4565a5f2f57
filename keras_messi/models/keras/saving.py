"""Save and load models of Keras."""

import os
import tempfile
import warnings
import zipfile
from pathlib import Path

import keras

# Loading a compressed model needs these classes registered, and nothing else.
import keras_messi.layers  # noqa: F401
from keras_messi.files import check_target, replaced_atomically
from keras_messi.layers.replacement import can_merge_lora, with_merged_lora
from keras_messi.models.keras._keras_internals import without_training_state
from keras_messi.models.keras.altered import all_layers
from keras_messi.models.keras.surgery import replace_layers


def save_model(
    model: keras.Model, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Save a model as a `.keras` file, without its optimizer and LoRA weights.

    The file is written beside its place and then renamed, so that an old file stays
    intact whatever happens. The state of the optimizer, often twice the size of the
    model, is left out; `model.save()` keeps it. LoRA weights are merged into factors in
    floating-point numbers, as `layer.merge_lora()` does, in the file only; layers of
    integers or codes keep them.

    Args:
        model: The model to save.
        path: Where to; must end in ".keras".
        overwrite: Whether an existing file may be replaced.

    Raises:
        ValueError: The path does not end in ".keras".
        FileExistsError: The path exists and `overwrite` is False.
        OSError: The file can't be written.
    """
    path = check_target(path, ".keras", overwrite=overwrite)
    model = _with_merged_lora(model)
    with replaced_atomically(path) as partial, without_training_state(model):
        keras.saving.save_model(model, partial)


def _with_merged_lora(model: keras.Model) -> keras.Model:
    """The model, or a copy if it has LoRA weights to merge."""
    layers = [x for x in all_layers(model) if not isinstance(x, keras.Model)]
    adapted = list(filter(can_merge_lora, layers))
    merged = {layer: with_merged_lora(layer) for layer in adapted}
    return replace_layers(model, merged) if merged else model


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """Load a model from a `.keras` file, compressed or not.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        ValueError: The file is not a Keras model, is damaged, or has layers of classes
            that are not registered.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a file. Received: {path}")
    path.open("rb").close()  # says whether it may be read
    if not _is_keras_archive(path):
        raise ValueError(
            "`path` must be a Keras model: a .keras archive with config.json and "
            f"weights. Received: {path}"
        )
    try:
        with warnings.catch_warnings():
            # Some classes compile themselves; save_model() left the optimizer out.
            warnings.filterwarnings("ignore", ".* the saved optimizer has 0 variables")
            return keras.saving.load_model(path)
    except ValueError:
        raise
    except Exception as error:  # what is damaged may make Keras raise anything
        # Keras repeats the whole config in its message.
        reason = str(error).split("Exception encountered: ")[-1]
        reason = reason.split(" Full object config:")[0]
        raise ValueError(
            f"`path` holds a model that can't be rebuilt: {path}. Import the modules "
            "that register its own classes first, or restore the file if it is "
            f"damaged. Keras says: {reason}"
        ) from error


def saved_size(model: keras.Model) -> int:
    """Size in bytes of the file that `save_model` writes for a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        save_model(model, path)
        return path.stat().st_size


def _is_keras_archive(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "config.json" in archive.namelist()
