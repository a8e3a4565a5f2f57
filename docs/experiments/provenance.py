"""Where a table comes from: command, versions, commit, machine."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from threadpoolctl import threadpool_info

PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "dask",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "onnxruntime",
    "faiss-cpu",
)


def provenance(command: str) -> str:
    """One line to stand below a table."""
    versions = ", ".join(
        f"{name} {found}" for name in PACKAGES if (found := _version(name))
    )
    return (
        f"Made by `{command}` at commit {_commit()}, Python "
        f"{platform.python_version()}, {versions}, {os.cpu_count()} cores "
        f"({platform.machine()}), {_threads()} threads."
    )


def write_page(path: Path, title: str, text: str, command: str) -> None:
    """Write a page with its provenance, and print its text."""
    page = f"# {title}\n\n{text}\n\n{provenance(command)}\n"
    path.write_text(page, encoding="utf-8")
    print(text)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _threads() -> int:
    """Most threads of the libraries that are loaded: BLAS and OpenMP."""
    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def _commit() -> str:
    """The commit, and whether Python files differ from it; tables may."""
    changed = _git("status", "--porcelain", "--", ":(top)*.py")
    return _git("describe", "--always") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
