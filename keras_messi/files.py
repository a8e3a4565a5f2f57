"""Files and folders that are written completely, then renamed (atomically)."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
