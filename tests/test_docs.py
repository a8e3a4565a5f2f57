"""The Python of the README and of the how-to pages runs as it stands there."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_messi.cli.demo import lenet_300_100

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how_to").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


# Pages that load a BERT, or compress many models.
SLOW = {"compress_a_hugging_face_model.md", "search_and_fine_tune.md"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.name in SLOW else [])
        for page in PAGES
    ],
    ids=lambda page: page.name,
)
def test_python_blocks_run(page, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    if "all-MiniLM-L6-v2" in text:
        folder = request.getfixturevalue("minilm_folder")
        (tmp_path / "all-MiniLM-L6-v2").symlink_to(folder)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    names = {
        "x_train": rng.standard_normal((64, 784)).astype("float32"),
        "y_train": rng.integers(0, 10, 64),
    }
    model = lenet_300_100()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(names["x_train"], names["y_train"], verbose=0)
    model.save("model.keras")
    blocks = BLOCK.findall(text)
    assert blocks
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
