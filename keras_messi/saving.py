"""Save and load models. The only file that knows the disk."""

import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

# Loading a compressed model needs these classes registered, and nothing else.
import keras_messi.altered
import keras_messi.layers  # noqa: F401
from keras_messi._keras_internals import without_training_state


def save_model(
    model: keras.Model, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Save a model as a `.keras` file, without its optimizer.

    The file is written beside its place and then renamed, so that an old file stays
    intact whatever happens. The state of the optimizer, often twice the size of the
    model, is left out; `model.save()` keeps it.

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
    with replaced_atomically(path) as partial, without_training_state(model):
        keras.saving.save_model(model, partial)


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """Load a model from a `.keras` file, compressed or not.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a Keras model, is damaged, or has layers of classes
            that are not registered.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a file. Received: {path}")
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
    except (KeyError, TypeError, zipfile.BadZipFile) as error:
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


def save_text(
    text: str, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a text file as carefully as `save_model` writes a model."""
    path = check_target(path, Path(path).suffix, overwrite=overwrite)
    with replaced_atomically(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def check_target(path: str | os.PathLike[str], suffix: str, *, overwrite: bool) -> Path:
    """The path, if a file with that suffix can be written there.

    Raises:
        ValueError: The path does not end in the suffix.
        FileExistsError: The path exists and `overwrite` is False.
        FileNotFoundError: The folder of the path does not exist.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f'the output path must end in "{suffix}". Received: {path}')
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the output folder must exist. Received: {path}")
    if path.is_dir() or (path.exists() and not overwrite):
        raise FileExistsError(
            "the output path must not exist yet, unless it is a file to be overwritten "
            f"(overwrite=True, --force). Received: {path}"
        )
    return path


def check_target_folder(
    path: str | os.PathLike[str], mark: str, *, overwrite: bool
) -> Path:
    """The path, if a folder that holds a file named mark can be written there.

    Raises:
        FileExistsError: The path exists, and `overwrite` is False or it is not an empty
            folder or one with that file.
        FileNotFoundError: The folder of the path does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the output folder must exist. Received: {path}")
    is_ours = path.is_dir() and ((path / mark).exists() or not any(path.iterdir()))
    if path.exists() and not (overwrite and is_ours):
        raise FileExistsError(
            "the output path must not exist yet, unless it is an empty folder or one "
            f"with {mark}, to be overwritten (overwrite=True, --force). "
            f"Received: {path}"
        )
    return path


@contextmanager
def replaced_atomically(path: Path) -> Iterator[Path]:
    """A path beside the given one, renamed to it at the end or removed on failure."""
    handle, name = tempfile.mkstemp(
        suffix=path.suffix, prefix=f".{path.stem}-", dir=path.parent
    )
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        # mkstemp made the file private; give it the mode of any new file.
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def folder_replaced_atomically(path: Path) -> Iterator[Path]:
    """A folder beside the given one, which takes its place at the end.

    An old folder stays until the new one is complete, and is back after a failure.
    """
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}-", dir=path.parent
    ) as beside:
        partial, old = Path(beside) / "new", Path(beside) / "old"
        partial.mkdir()
        yield partial
        if path.exists():
            path.rename(old)
        try:
            partial.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise


def _is_keras_archive(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "config.json" in archive.namelist()
