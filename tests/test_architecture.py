"""Import contracts, what the packages need, and what the docs mention."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import keras_messi
import keras_messi.layers
import keras_messi.training
import kprojclust
import kprojclust.plotting

ROOT = Path(__file__).parent.parent


def test_import_contracts_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [lint], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("package", "private", "only"),
    [
        ("keras_messi", "keras.src", "_keras_internals.py"),
        ("kprojclust", "sklearn.utils._", "validation.py"),
    ],
)
def test_private_names_of_others_are_used_in_one_file(package, private, only):
    files = [
        path.name
        for path in (ROOT / package).rglob("*.py")
        if private in path.read_text(encoding="utf-8")
    ]
    assert set(files) == {only}


def test_every_room_is_on_the_architecture_page():
    page = (ROOT / "docs" / "contributing" / "architecture.md").read_text("utf-8")
    for package in ("kprojclust", "keras_messi"):
        for path in (ROOT / package).iterdir():
            if path.suffix == ".py" and path.stem != "__init__":
                assert f"| `{path.name}` |" in page
            elif (path / "__init__.py").exists():
                assert f"| `{path.name}/` |" in page


def test_old_names_of_modules_warn_and_lead_to_the_new_ones():
    with pytest.warns(DeprecationWarning, match="is now `keras_messi.training`"):
        old = importlib.import_module("keras_messi.quant_noise")
    assert old.add_quant_noise is keras_messi.training.add_quant_noise


def run_without(blocked, code):
    blocks = "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    subprocess.run([sys.executable, "-c", f"import sys\n{blocks}{code}"], check=True)


def test_kprojclust_needs_no_keras():
    run_without(
        ["keras", "tensorflow", "tqdm", "matplotlib", "keras_messi"],
        "from kprojclust import KSubspaces\nKSubspaces(1).fit([[1.0, 2.0]])",
    )


def test_layers_and_saving_need_no_clustering():
    run_without(
        ["kprojclust", "sklearn", "tqdm", "matplotlib"],
        "import keras_messi\nkeras_messi.layers.MessiDense, keras_messi.save_model",
    )


@pytest.mark.parametrize(
    "package", [kprojclust, kprojclust.plotting, keras_messi, keras_messi.layers]
)
def test_every_public_name_is_documented_and_in_the_api_page(package):
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in package.__all__:
        assert getattr(package, name).__doc__, name
        assert name in page, name
