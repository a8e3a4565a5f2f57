"""What an import says where Keras is missing, too old, or without its backend."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def import_error(folder, keras_source):
    """Last line of what importing keras_messi prints beside such a keras."""
    (folder / "keras.py").write_text(keras_source, encoding="utf-8")
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(folder), str(root)])
    result = subprocess.run(
        [sys.executable, "-c", "import keras_messi"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert result.returncode == 1
    return result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("version", ["2.15.0", "3.5.0", "3.11.3"])
def test_a_keras_that_is_too_old_is_named(version, tmp_path):
    message = import_error(tmp_path, f"__version__ = '{version}'")
    assert message == (
        f"ImportError: keras_messi needs Keras 3.15 or later. Found Keras {version}: "
        "pip install --upgrade keras"
    )


def test_a_keras_without_its_backend_says_what_to_install(tmp_path):
    missing = "raise ModuleNotFoundError(\"No module named 'tensorflow'\")"
    message = import_error(tmp_path, missing)
    assert "ImportError: keras_messi needs Keras and one of its backends" in message
    assert "KERAS_BACKEND" in message
    assert message.endswith("No module named 'tensorflow'")
