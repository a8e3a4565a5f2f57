"""The benchmark of exported files, on a network of one layer."""

from dataclasses import fields
from itertools import product

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("the benchmark runs on TensorFlow", allow_module_level=True)
for name in ("onnxruntime", "tokenizers", "tf_keras"):
    pytest.importorskip(name)

import deployment  # noqa: E402
import deployment_networks  # noqa: E402
import deployment_page  # noqa: E402
from deployment_pictures import PICTURES  # noqa: E402

from keras_messi import RoundingConfig, compress  # noqa: E402


def _plain():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((256,)), keras.layers.Dense(512)])


def _inputs(count):
    rng = np.random.default_rng(0)
    return {"x": rng.standard_normal((count, 256)).astype("float32")}


@pytest.fixture
def tiny(monkeypatch):
    """The name of a network that takes no time."""
    network = deployment_networks.Network(
        _plain,
        {"4 bits": lambda model: compress(model, RoundingConfig(4, None))[0]},
        "4 bits",
        _inputs,
        lambda run: float(run(_inputs(1)).mean()),
    )
    monkeypatch.setitem(deployment.NETWORKS, "tiny", network)
    monkeypatch.setattr(deployment, "SECONDS", 0)
    return "tiny"


def test_each_form_is_written_and_one_as_each_kind_of_file(tiny):
    kinds = [
        trial.kind for trial in deployment.trials([tiny]) if trial.form == "4 bits"
    ]
    assert kinds[0] == "ONNX"
    assert len(kinds) > 1
    assert "ONNX Runtime int8" not in kinds


@pytest.mark.parametrize("kind", ["ONNX", "LiteRT"])
def test_a_file_is_measured_beside_its_model_and_the_uncompressed_one(
    tiny, tmp_path, kind
):
    exports = deployment.Exports(tmp_path)
    result = deployment.measure(deployment.Trial(tiny, "4 bits", kind), exports, 1)
    assert result.file_bytes < 1.1 * result.saved_bytes
    assert 0 < result.distance < 0.03
    assert abs(result.score - result.model_score) < 0.03
    assert result.memory_mb > 0


def _result(**known):
    numbers = {field.name: 1.0 for field in fields(deployment.Result)}
    return deployment.Result(**{**numbers, **known})


def test_the_page_has_a_line_for_each_file_and_its_pictures(tmp_path):
    rows = deployment.Rows(
        tmp_path / "deployment.csv", deployment.Trial, deployment.Result
    )
    for network, kind in product(["MiniLM", "LeNet-300-100"], ["ONNX", "LiteRT"]):
        for form in ("uncompressed", "4 bits"):
            trial = deployment.Trial(network, form, kind)
            rows.complete([trial], lambda _: _result(saved_bytes=4, file_bytes=2))
    again = deployment.Rows(rows.path, deployment.Trial, deployment.Result)
    deployment_page.write_page(again.results, tmp_path, rounds=1)
    page = (tmp_path / "deployment.md").read_text("utf-8")
    assert page.count("| 4 bits | ONNX | 0.0 | 0.0 | 0.50 |") == 2
    for picture in PICTURES:
        assert f"]({picture})" in page
        assert (tmp_path / picture).stat().st_size > 0
