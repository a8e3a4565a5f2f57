"""Files that something happened to are refused, and named."""

import json
import zipfile

import keras
import numpy as np
import pytest

from keras_messi import MessiConfig, compress, load_model, save_model


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(30, name="d")])
    small, _ = compress(model, MessiConfig(rate=0.4, num_clusters=2, scope="layer"))
    path = tmp_path_factory.mktemp("saved") / "small.keras"
    save_model(small, path)
    return path


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def damaged(data, rng):
    """Some bytes changed, or the end missing."""
    if rng.integers(2):
        return data[: rng.integers(len(data))]
    changed = bytearray(data)
    for place in rng.integers(0, len(changed), 5):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def assert_refused_or_loaded(path):
    """What is damaged may load by chance; if not, the error is the documented one."""
    try:
        load_model(path)
    except ValueError:
        return True
    return False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_archive_raises_a_value_error(file, tmp_path, seed):
    data = damaged(file.read_bytes(), np.random.default_rng(seed))
    path = tmp_path / "damaged.keras"
    path.write_bytes(data)
    assert assert_refused_or_loaded(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
@pytest.mark.parametrize("seed", range(15))
def test_a_damaged_member_raises_a_value_error(file, tmp_path, member, seed):
    files = contents(file)
    files[member] = damaged(files[member], np.random.default_rng(seed))
    assert_refused_or_loaded(written(tmp_path / "damaged.keras", files))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.update(config=5),
        lambda layer: layer["config"].update(units="many"),
        lambda layer: layer["config"].update(units=-3),
        lambda layer: layer["config"].update(rank=[]),
        lambda layer: layer["config"].update(cluster_sizes=[10**9, 2]),
        lambda layer: layer.update(registered_name="Nothing", class_name="Nothing"),
        lambda layer: layer.clear(),
    ],
)
def test_a_config_of_nonsense_raises_a_value_error(file, tmp_path, change):
    files = contents(file)
    config = json.loads(files["config.json"])
    change(config["config"]["layers"][-1])
    files["config.json"] = json.dumps(config)
    assert assert_refused_or_loaded(written(tmp_path / "damaged.keras", files))


def test_a_file_without_permission_is_not_called_damaged(file, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("not yours")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(PermissionError, match="not yours"):
        load_model(file)
