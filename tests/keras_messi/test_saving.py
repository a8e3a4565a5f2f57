"""Real files, real processes, real full disks."""

import copy
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_messi import MessiConfig, compress, load_model, save_model
from keras_messi.files import replaced_atomically, save_text
from tests.keras_messi import models


@pytest.fixture
def small():
    keras.utils.set_random_seed(0)
    return compress(
        models.siamese(), MessiConfig(rate=0.5, num_clusters=2, scope="layer")
    )[0]


def run_python(code, *arguments, backend=None):
    """Run a script in a fresh process, with this Keras backend or another one."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "KERAS_BACKEND": backend or keras.backend.backend()},
        cwd=Path(__file__).parents[2],
        check=False,
    )


RELOAD = """
    import sys
    for name in ("kprojclust", "sklearn", "tqdm", "matplotlib"):
        sys.modules[name] = None  # importing it raises
    import keras, numpy as np
    import keras_messi
    import tests.keras_messi.models  # registers the classes of the models
    for folder in sys.argv[1:]:
        for load in (keras_messi.load_model, keras.saving.load_model):
            for name in ("saved", "by_keras"):
                model = load(f"{folder}/{name}.keras")
                x = list(np.load(folder + "/x.npz").values())
                y = model.predict(x if len(x) > 1 else x[0], verbose=0)
                print(np.abs(y - np.load(folder + "/y.npy")).max())
"""

KINDS = [models.siamese, models.subclassed, models.with_blocks, models.tied]


def save_all(make, folder):
    """A compressed model, saved in both ways, with inputs and outputs."""
    keras.utils.set_random_seed(0)
    small, _ = compress(make(), MessiConfig(rate=0.4, num_clusters=2, scope="layer"))
    save_model(small, folder / "saved.keras")
    small.save(folder / "by_keras.keras")
    x = models.inputs_of(small)
    np.savez(folder / "x.npz", *(x if isinstance(x, list) else [x]))
    np.save(folder / "y.npy", small.predict(x, verbose=0))


@pytest.mark.slow
def test_reload_where_no_clustering_can_be_imported_is_bit_for_bit(tmp_path):
    folders = [tmp_path / make.__name__ for make in KINDS]
    for make, folder in zip(KINDS, folders, strict=True):
        folder.mkdir()
        save_all(make, folder)
    result = run_python(RELOAD, *folders)
    assert result.stdout.split() == ["0.0"] * 4 * len(KINDS), result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", sorted({"tensorflow", "torch", "jax"} - {keras.backend.backend()})
)
def test_files_load_on_other_backends(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    save_all(models.subclassed, tmp_path)
    result = run_python(RELOAD, tmp_path, backend=backend)
    differences = [float(line) for line in result.stdout.split()]
    assert len(differences) == 4, result.stderr
    assert max(differences) < 1e-6


def test_a_model_of_several_inputs_is_built_when_it_is_loaded(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 50, (4, 6)), rng.standard_normal((4, 24)).astype("float32")
    model = models.Pair()
    model(*x)
    small, report = compress(
        model, MessiConfig(rate=0.4, num_clusters=2, scope="layer")
    )
    assert "block/steps/0" in [row.path for row in report.replaced]
    save_model(small, tmp_path / "pair.keras")
    again = load_model(tmp_path / "pair.keras")
    found, expected = map(keras.ops.convert_to_numpy, (again(*x), small(*x)))
    assert np.array_equal(found, expected)


def test_copies_and_pickles_of_altered_models_compute_the_same():
    small, _ = compress(
        models.subclassed(), MessiConfig(rate=0.4, num_clusters=2, scope="layer")
    )
    expected = models.outputs_of(small)
    for copied in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert np.array_equal(models.outputs_of(copied), expected)
        assert copied.count_params() == small.count_params()


def test_an_altered_layer_is_saved_right_in_another_model(tmp_path):
    small, _ = compress(
        models.with_blocks(), MessiConfig(rate=0.4, num_clusters=2, scope="layer")
    )
    inputs = keras.Input((6, 24))
    other = keras.Model(inputs, small.get_layer("block")(inputs))
    other.save(tmp_path / "other.keras")
    again = keras.saving.load_model(tmp_path / "other.keras")
    assert again.count_params() == other.count_params()
    assert np.array_equal(models.outputs_of(again), models.outputs_of(other))


def test_an_interrupt_while_the_config_is_made_leaves_the_model_whole(
    tmp_path, monkeypatch
):
    small, _ = compress(
        models.subclassed(), MessiConfig(rate=0.4, num_clusters=2, scope="layer")
    )

    def interrupt(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(models.Tower, "get_config", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_model(small, tmp_path / "small.keras")
    assert os.listdir(tmp_path) == []
    save_model(small, tmp_path / "small.keras")
    again = load_model(tmp_path / "small.keras")
    assert np.array_equal(models.outputs_of(again), models.outputs_of(small))


def test_a_class_that_is_not_registered_is_named_when_it_is_loaded(tmp_path):
    class Unknown(models.Tower):
        pass

    model = Unknown()
    model(models.inputs_of(model))
    small, _ = compress(model, MessiConfig(rate=0.4, num_clusters=2, scope="layer"))
    save_model(small, tmp_path / "small.keras")
    with pytest.raises(ValueError, match="Import the modules.*locate class 'Unknown'"):
        load_model(tmp_path / "small.keras")


def test_the_optimizer_is_left_out_and_stays_with_the_model(small, tmp_path):
    save_model(small, tmp_path / "before.keras")
    small.compile("adam", "mse")
    x, y = models.inputs_of(small), np.zeros((4, 2))
    small.fit(x, y, verbose=0)
    save_model(small, tmp_path / "after.keras")
    size = (tmp_path / "before.keras").stat().st_size
    assert (tmp_path / "after.keras").stat().st_size == size
    assert not load_model(tmp_path / "after.keras").compiled
    assert int(small.optimizer.iterations) == 1
    small.fit(x, y, verbose=0)
    assert int(small.optimizer.iterations) == 2


def test_keras_itself_saves_and_restores_the_optimizer(small, tmp_path):
    small.compile("adam", "mse")
    small.fit(models.inputs_of(small), np.zeros((4, 2)), verbose=0)
    small.save(tmp_path / "checkpoint.keras")
    again = load_model(tmp_path / "checkpoint.keras")
    assert int(again.optimizer.iterations) == 1


def test_an_existing_file_needs_overwrite(small, tmp_path):
    path = tmp_path / "small.keras"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="must not exist yet.*small.keras"):
        save_model(small, path)
    assert path.read_bytes() == b"precious"
    save_model(small, path, overwrite=True)
    assert np.array_equal(models.outputs_of(load_model(path)), models.outputs_of(small))


def test_the_file_has_the_mode_of_a_new_file(small, tmp_path):
    save_model(small, tmp_path / "small.keras")
    (tmp_path / "other").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("small.keras", "other")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("small.h5", ValueError, 'must end in ".keras". Received: .*small.h5'),
        ("no/small.keras", FileNotFoundError, "the output folder must exist"),
        ("folder.keras", FileExistsError, "unless it is a file to be overwritten"),
    ],
)
def test_bad_paths_are_refused(small, tmp_path, name, error, message):
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(error, match=message):
        save_model(small, tmp_path / name, overwrite=True)


FAILING_SAVE = """
    import os, resource, signal, sys
    import keras, numpy as np, keras_messi
    folder = sys.argv[1]

    class Last(keras.layers.Layer):
        def save_own_variables(self, store):
            if how == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)

        def call(self, inputs):
            return inputs

    model = keras.Sequential([keras.Input((500,)), keras.layers.Dense(500), Last()])
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    for how in ("full", "interrupt", "kill"):
        limit = 100_000 if how == "full" else most
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
        try:
            path = f"{folder}/{how}/model.keras"
            keras_messi.save_model(model, path, overwrite=True)
        except BaseException as error:
            print(how, type(error).__name__, flush=True)
"""


@pytest.mark.slow
def test_the_old_file_survives_a_full_disk_an_interrupt_and_a_kill(tmp_path):
    for how in ("full", "interrupt", "kill"):
        (tmp_path / how).mkdir()
        (tmp_path / how / "model.keras").write_bytes(b"precious")
    result = run_python(FAILING_SAVE, tmp_path)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert result.stdout == "full OSError\ninterrupt KeyboardInterrupt\n"
    for how in ("full", "interrupt", "kill"):
        assert (tmp_path / how / "model.keras").read_bytes() == b"precious"
        if how != "kill":  # nobody cleans up after SIGKILL
            assert os.listdir(tmp_path / how) == ["model.keras"]


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x05\x06" + 18 * b"\0"])
def test_files_that_are_no_models_are_named(tmp_path, content):
    path = tmp_path / "fake.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must be a Keras model.*fake.keras"):
        load_model(path)


class Unregistered(keras.layers.Layer):
    """A layer that Keras can't find by name."""

    def call(self, inputs):
        return inputs


def test_models_with_unknown_classes_say_what_to_do(tmp_path):
    model = keras.Sequential([keras.Input((3,)), Unregistered()])
    save_model(model, tmp_path / "own.keras")
    with pytest.raises(ValueError, match="Import the modules that register"):
        load_model(tmp_path / "own.keras")


def test_damaged_files_are_refused(small, tmp_path):
    path = tmp_path / "small.keras"
    save_model(small, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match="restore the file if it is damaged"):
        load_model(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="`path` must be a file.*gone.keras"):
        load_model(tmp_path / "gone.keras")


def test_text_is_written_as_carefully(tmp_path):
    path = tmp_path / "report.json"
    save_text("{}", path)
    assert path.read_text() == "{}\n"
    with pytest.raises(FileExistsError):
        save_text("[]", path)
    assert path.read_text() == "{}\n"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_failure_inside_keeps_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")

    def write_half():
        with replaced_atomically(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]
