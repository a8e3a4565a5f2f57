"""Rows in files: memory maps, and lists of .npy files."""

import os
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning

from kprojclust import KSubspaces, make_subspaces
from kprojclust._parallel.tiles import block_rows
from kprojclust._rows.blocks import raise_if_not_finite
from kprojclust.losses import HuberLoss

ROOT = Path(__file__).parents[2]
N = 20_000
LONG = 135_000


@pytest.fixture(scope="module")
def X():
    """Rows enough for a race, and for several blocks of a small working memory."""
    X, _, _ = make_subspaces(
        N, 24, n_clusters=4, n_components=5, noise=0.3, random_state=0
    )
    return X


def save(folder, X, name="rows.npy"):
    np.save(folder / name, X)
    return folder / name


def memory_map(folder, X):
    return np.load(save(folder, X), mmap_mode="r")


def shards(folder, X):
    """Paths of four files of uneven length, one of them empty."""
    parts = np.split(X, [1, len(X) // 3, len(X) // 3])
    return [save(folder, part, f"{i}.npy") for i, part in enumerate(parts)]


FORMS = {
    "map": memory_map,
    "shards": shards,
    "Fortran order": lambda folder, X: memory_map(folder, np.asfortranarray(X)),
}
OPTIONS = {
    "squared": {},
    "affine": {"affine": True},
    "budget": {"max_parameters": 110_000},
    "l1": {"loss": "l1"},
    "huber": {"loss": "huber"},
    "relocations": {"n_relocations": 2},
}


def fit(X, sample_weight=None, **options):
    model = KSubspaces(4, 5, random_state=0, **{"n_init": 2, **options})
    return model.fit(X, sample_weight=sample_weight)


@pytest.fixture(scope="module")
def in_memory(X):
    """Fits of the rows in memory, by dtype and options; each is made once."""
    weight = np.random.default_rng(0).uniform(0, 2, N)

    @cache
    def fit_in_memory(dtype=np.float64, name=None):
        if name is None:
            return fit(X.astype(dtype))
        return fit(X.astype(dtype), weight, **OPTIONS[name])

    return fit_in_memory


@pytest.fixture(scope="module")
def model(X):
    """From one start, for what follows a fit."""
    return fit(X, n_init=1)


def assert_bitwise_equal(model, other):
    assert np.array_equal(model.labels_, other.labels_)
    assert model.loss_curve_ == other.loss_curve_
    assert model.means_.dtype == other.means_.dtype
    for basis, other_basis in zip(model.components_, other.components_, strict=True):
        assert np.array_equal(basis, other_basis)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_in_files_are_fitted_as_in_memory(tmp_path, X, in_memory, form, dtype):
    in_files = fit(form(tmp_path, X.astype(dtype)))
    assert_bitwise_equal(in_files, in_memory(dtype))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("form", [memory_map, shards])
def test_every_option_works_on_files(tmp_path, X, in_memory, form, name):
    weight = np.random.default_rng(0).uniform(0, 2, N)
    in_files = fit(form(tmp_path, X), weight, **OPTIONS[name])
    assert_bitwise_equal(in_files, in_memory(name=name))


def fit_for_long(X, loss):
    """Rows without clusters, which keep moving."""
    start = np.arange(LONG) % 4
    model = KSubspaces(4, 3, init=start, max_iter=4, tol=0, loss=loss)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X)


@pytest.fixture(scope="module")
def long():
    """More rows than two blocks of a small working memory hold."""
    X = np.random.default_rng(0).standard_normal((LONG, 33), dtype=np.float32)
    with sklearn.config_context(working_memory=1):
        assert len(X) > 2 * block_rows(33, 4)
    return X


@pytest.fixture(scope="module", params=["squared", HuberLoss(5.0)], ids=str)
def fit_of_long(request, long):
    return request.param, fit_for_long(long, request.param)


# One tile a block with 1 MiB, as with 16, and all rows in one block with 1024.
@pytest.mark.parametrize("working_memory", [1, 1024])
@pytest.mark.parametrize("form", [memory_map, shards])
def test_labels_do_not_depend_on_how_much_is_read_at_once(
    tmp_path, long, fit_of_long, form, working_memory
):
    loss, whole = fit_of_long
    with sklearn.config_context(working_memory=working_memory):
        parts = fit_for_long(form(tmp_path, long), loss)
        assert np.array_equal(parts.predict(form(tmp_path, long)), parts.labels_)
    assert np.array_equal(parts.labels_, whole.labels_)
    assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-12)


def test_whole_numbers_in_a_file_are_fitted_in_float64(tmp_path, X):
    whole = np.round(100 * X).astype(np.int16)
    model = fit(memory_map(tmp_path, whole))
    assert model.means_.dtype == np.float64
    assert_bitwise_equal(model, fit(whole.astype(np.float64)))


@pytest.mark.parametrize(
    "part", [np.s_[10:], np.s_[::2], np.s_[:, :10], np.s_[5:15_000, 3:]], ids=str
)
def test_a_slice_of_a_memory_map_is_fitted_as_in_memory(tmp_path, X, part):
    assert_bitwise_equal(fit(memory_map(tmp_path, X)[part]), fit(X[part]))


@pytest.mark.parametrize("options", [{"p": 1}, {"n_relocations": 2}, {}], ids=str)
def test_little_data_in_a_file_is_fitted_as_in_memory(tmp_path, X, options):
    small = X[:300]
    assert_bitwise_equal(
        fit(memory_map(tmp_path, small), **options), fit(small, **options)
    )


def test_fewer_rows_than_second_moments_in_a_file(tmp_path, X):
    few = X[:60]
    assert_bitwise_equal(fit(memory_map(tmp_path, few)), fit(few))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "method", ["predict", "transform", "project", "score", "score_samples"]
)
def test_methods_take_files(tmp_path, X, model, form, method):
    in_files = getattr(model, method)(form(tmp_path, X))
    assert np.array_equal(in_files, getattr(model, method)(X))


def test_score_weighs_rows_of_files(tmp_path, X, model):
    weight = np.random.default_rng(0).uniform(0, 2, N)
    score = model.score(memory_map(tmp_path, X), sample_weight=weight)
    assert score == model.score(X, sample_weight=weight)


# Bad files


@pytest.mark.parametrize("part", [np.s_[:, :7], np.s_[:, 0]], ids=["columns", "1-D"])
def test_a_file_of_another_shape_is_named(tmp_path, X, part):
    paths = [save(tmp_path, X), save(tmp_path, X[part], "other.npy")]
    with pytest.raises(ValueError, match=r"Got shape .* in .*other\.npy"):
        fit(paths)


def test_a_missing_file_is_named(tmp_path, X):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit([save(tmp_path, X), tmp_path / "nowhere.npy"])


def test_files_without_rows_are_refused(tmp_path, X):
    with pytest.raises(ValueError, match="n_samples=0 must not be below"):
        fit([save(tmp_path, X[:0])])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(tmp_path, X, model, form, value):
    bad = X.copy()
    bad[[15_000, 19_000], 3] = value
    rows = form(tmp_path, bad)
    for method in (fit, model.predict, model.transform, model.score):
        with pytest.raises(ValueError, match="NaN or infinity in row 15000"):
            method(rows)


def test_large_finite_numbers_are_no_infinity():
    raise_if_not_finite(np.full((20, 3), 1e308), first_row=0)


@pytest.mark.parametrize("weights", [[1.0], np.ones((N, 2))], ids=["few", "2-D"])
def test_weights_of_files_are_checked(tmp_path, X, weights):
    with pytest.raises(ValueError, match="sample_weight|Sample weights"):
        fit(memory_map(tmp_path, X), weights)


# Reading beyond the end of a file would end the process with SIGBUS.

SHRINK = """
import os, sys
import numpy as np
from kprojclust import KSubspaces

def fit(paths, as_map, how):
    size = os.path.getsize(paths[-1])
    def shrink():
        os.truncate(paths[-1], size // 2)
    def init(X, n_clusters, random_state):
        shrink()
        return np.arange(len(X)) % n_clusters
    class Loss:
        def rho(self, residuals):
            if os.path.getsize(paths[-1]) == size: shrink()
            return residuals**2
        def weights(self, residuals):
            return np.ones_like(residuals)
    X = np.load(paths[0], mmap_mode="r") if as_map else paths
    model = KSubspaces(3, 2, random_state=0)
    if how == "before fit":
        shrink()
    elif how == "by a start":
        model.set_params(init=init)
    else:
        model.set_params(loss=Loss(), init=np.arange(40_000) % 3)
    try:
        model.fit(X)
    except OSError as error:
        print(error)

for case in {cases!r}:
    fit(*case)
"""
SHRINKING = [
    ("map", "before fit"),
    ("map", "by a start"),
    ("map", "by a loss"),
    ("shards", "by a start"),
]


def test_files_that_shrink_are_named(tmp_path):
    X, cases = np.random.default_rng(0).standard_normal((40_000, 16)), []
    for number, (form, how) in enumerate(SHRINKING):
        names = range(1 if form == "map" else 2)
        paths = [str(save(tmp_path, X, f"{number}-{i}.npy")) for i in names]
        cases.append((paths, form == "map", how))
    size = os.path.getsize(paths[-1])
    command = [sys.executable, "-c", SHRINK.format(cases=cases)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    for (paths, *_), line in zip(cases, found.stdout.splitlines(), strict=True):
        for part in (Path(paths[-1]).name, f"{size} bytes", f"{size // 2} bytes"):
            assert part in line
