"""Where a table comes from: command, versions, commit, machine."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("numpy", "scipy", "scikit-learn", "keras", "tensorflow", "tensorflow-cpu")


def provenance(command: str) -> str:
    """One line to stand below a table."""
    versions = ", ".join(
        f"{name} {found}" for name in PACKAGES if (found := _version(name))
    )
    return (
        f"Made by `{command}` at commit {_commit()}, Python "
        f"{platform.python_version()}, {versions}, {os.cpu_count()} cores "
        f"({platform.machine()})."
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return described.stdout.strip()
