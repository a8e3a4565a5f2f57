"""The installed command, as a script would call it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_messi
from keras_messi import load_model, save_model
from keras_messi.cli import main
from keras_messi.layers import MessiEmbedding, PQEmbedding
from keras_messi.models.keras.altered import all_layers
from tests.keras_messi import models

COMMAND = [str(Path(sys.executable).with_name("keras-messi"))]


@pytest.fixture
def model(tmp_path):
    """A saved model, and the folder it is in."""
    keras.utils.set_random_seed(0)
    model = models.siamese()
    save_model(model, tmp_path / "model.keras")
    return model


def run(*arguments, cwd=None):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=cwd,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        check=False,
    )


def test_compress_writes_model_and_report_and_prints_the_table(model, tmp_path):
    options = (
        "--rate 0.6 --num-clusters 2 --scope layer --filters words project "
        "--report report.json"
    )
    result = run(
        "compress", "model.keras", "small.keras", *options.split(), cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["path"] for row in report["replaced"]] == [
        "encoder/words",
        "encoder/project",
    ]
    size = (tmp_path / "small.keras").stat().st_size
    assert report["file_bytes_after"] == size
    assert f"{size:,}" in result.stdout
    assert "100%" in result.stderr
    assert "100%" not in result.stdout
    small = load_model(tmp_path / "small.keras")
    assert models.outputs_of(small).shape == models.outputs_of(model).shape


@pytest.mark.slow
def test_compress_learns_from_a_file_and_quantizes(model, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        tensor.name: rng.integers(0, 50, (20, *(n or 7 for n in tensor.shape[1:])))
        for tensor in model.inputs
    }
    np.savez(tmp_path / "inputs.npz", **arrays)
    options = "--rate 0.6 --num-clusters auto --max-clusters 2 --quantization int8"
    result = run(
        *("compress", "model.keras", "small.keras", "--calibration", "inputs.npz"),
        *options.split(),
        *("--filters", "words"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "row weights" in result.stdout
    small = load_model(tmp_path / "small.keras")
    (layer,) = [x for x in all_layers(small) if isinstance(x, MessiEmbedding)]
    assert layer.quantization == "int8"
    assert layer.num_clusters <= 2


def test_code_writes_codebooks_and_codes(model, tmp_path, capsys):
    source, target = tmp_path / "model.keras", tmp_path / "small.keras"
    options = "--block-size 2 --num-codewords 16 --num-codebooks all --filters words"
    assert main(["code", str(source), str(target), *options.split()]) == 0
    assert "encoder/words" in capsys.readouterr().out
    small = load_model(target)
    (layer,) = [x for x in all_layers(small) if isinstance(x, PQEmbedding)]
    assert (layer.block_size, layer.num_codewords) == (2, 16)
    assert layer.num_codebooks == layer.output_dim // 2


def test_a_calibration_file_must_hold_arrays(model, tmp_path, capsys):
    (tmp_path / "inputs.npy").write_text("no array")
    paths = [str(tmp_path / name) for name in ("model.keras", "small.keras")]
    data = ["--calibration", str(tmp_path / "inputs.npy")]
    assert main(["compress", *paths, "--rate", "0.5", *data]) == 1
    assert "`--calibration` must be a .npy or .npz file" in capsys.readouterr().err
    assert not (tmp_path / "small.keras").exists()


@pytest.mark.slow
def test_python_m_runs_the_same_command(model, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "keras_messi", "inspect", tmp_path / "model.keras"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "encoder/words" in result.stdout


def test_inspect_lists_layers_matrices_and_shares(model, tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "model.keras")]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "50 x 24" in lines["encoder/words"]
    assert f"{model.count_params():,}" in lines["all"]
    assert "100.0 %" in lines["all"]


def test_inspect_forecasts_what_compress_then_writes(model, tmp_path, capsys):
    goal = ["--rate", "0.6", "--num-clusters", "2"]
    paths = [str(tmp_path / "model.keras"), str(tmp_path / "small.keras")]
    assert main(["inspect", paths[0], *goal]) == 0
    table = capsys.readouterr().out
    report_file = str(tmp_path / "report.json")
    assert main(["compress", *paths, *goal, "--report", report_file]) == 0
    report = json.loads(Path(report_file).read_text())
    lines = {line.split()[0]: line for line in table.splitlines()}
    for layer in report["replaced"]:
        *_, rank, size, _, _ = lines[layer["path"]].split()
        assert min(layer["ranks"]) <= int(rank) <= max(layer["ranks"])
        assert 0.8 < layer["bytes_after"] / int(size.replace(",", "")) <= 1
    *_, size, _, _ = lines["all"].split()
    assert 0.8 < report["bytes_after"] / int(size.replace(",", "")) <= 1
    assert "no rank at this rate" in lines["head"]


@pytest.mark.slow
def test_curve_writes_the_best_models_a_picture_and_a_table(model, tmp_path):
    options = "--rates 0.5 0.7 --filters words --max-clusters 3 --output found"
    result = run("curve", "model.keras", *options.split(), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "found"
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "curve.txt").read_text() in result.stdout
    assert "100%" in result.stderr
    for rate in ("0.5", "0.7"):
        path = next(folder.glob(f"rate-{rate}-k-*.keras"))
        assert load_model(path).count_params() < model.count_params()
    again = run("curve", "model.keras", *options.split(), cwd=tmp_path)
    assert again.stdout == result.stdout


def test_curve_refuses_a_folder_of_another_search(model, tmp_path, capsys):
    paths = [str(tmp_path / "model.keras"), "--output", str(tmp_path / "found")]
    options = ["--filters", "words", "--max-clusters", "1", "--rates"]
    assert main(["curve", *paths, *options, "0.5"]) == 0
    assert main(["curve", *paths, *options, "0.6"]) == 1
    assert "rates=[0.5] there and rates=[0.6] here" in capsys.readouterr().err


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="no LiteRT, no ONNX")
def test_export_writes_the_format_that_the_path_stands_for(model, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    assert main(["export", str(tmp_path / "model.keras"), str(path)]) == 0
    assert path.stat().st_size > 0
    assert main(["export", str(tmp_path / "model.keras"), str(path)]) == 1
    assert "--force" in capsys.readouterr().err


def compress_arguments(folder, *more):
    paths = [str(folder / "model.keras"), str(folder / "small.keras")]
    return ["compress", *paths, "--rate", "0.6", "--num-clusters", "2", *more]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "1.5"], "Received: rate=1.5"),
        (["--num-clusters", "0"], "Received: num_clusters=0"),
        (["--filters", "nothing"], "`filters` must match a layer"),
        (["--report", "report.txt"], 'must end in ".json"'),
        (["--seed", "-1"], "Received: seed=-1"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_1(
    model, tmp_path, capsys, arguments, message
):
    assert main(compress_arguments(tmp_path, *arguments)) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.strip().splitlines()[-1]
    assert line.startswith("keras-messi: error: ")
    assert message in line
    assert not (tmp_path / "small.keras").exists()


def test_existing_output_needs_force(model, tmp_path, capsys):
    (tmp_path / "small.keras").write_bytes(b"precious")
    assert main(compress_arguments(tmp_path)) == 1
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "small.keras").read_bytes() == b"precious"
    assert main(compress_arguments(tmp_path, "--force")) == 0
    load_model(tmp_path / "small.keras")


def test_a_file_that_is_no_model_is_named(tmp_path, capsys):
    (tmp_path / "notes.keras").write_text("no model")
    assert main(["inspect", str(tmp_path / "notes.keras")]) == 1
    assert "must be a Keras model" in capsys.readouterr().err


def test_bad_usage_is_exit_status_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["compress", "only-one.keras"])
    assert end.value.code == 2
    assert "usage: keras-messi compress" in capsys.readouterr().err


def test_an_interrupt_is_exit_status_130(model, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_messi.compression.compress", interrupted)
    assert main(compress_arguments(tmp_path)) == 130
    assert "interrupted" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["model.keras"]


@pytest.mark.slow
def test_demo_runs_from_nothing_to_a_smaller_model(tmp_path, capsys):
    result = run("demo", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "messi-demo"
    assert sorted(os.listdir(folder)) == ["best.keras", "curves.png", "report.json"]
    report = json.loads((folder / "report.json").read_text())
    assert (folder / "best.keras").stat().st_size == report["file_bytes_after"]
    assert report["parameters_after"] < report["parameters_before"] / 4
    best = load_model(folder / "best.keras")
    assert best.predict(np.zeros((1, 784), "float32"), verbose=0).shape == (1, 10)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    table = [line for line in result.stdout.splitlines() if " % " in line]
    assert len(table) >= 20
    assert main(["demo", "--output", str(folder)]) == 1
    assert "--force" in capsys.readouterr().err


def test_demo_without_the_files_of_mnist_says_which_is_missing(tmp_path, capsys):
    assert main(["demo", "--data", str(tmp_path), "--output", str(tmp_path / "x")]) == 1
    assert "train-images-idx3-ubyte.gz" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == keras_messi.__version__
    assert set(keras_messi.__all__) <= set(dir(keras_messi))
