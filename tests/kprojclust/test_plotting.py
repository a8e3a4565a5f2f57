import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from kprojclust import KSubspaces, make_subspaces
from kprojclust.plotting import (
    ClusterSizesDisplay,
    ModelSelectionDisplay,
    SubspacesDisplay,
    SubspaceSpectrumDisplay,
)

SPECTRA = [np.array([4.0, 1.0, 0.1]), np.array([9.0, 0.2, 0.1])]
DISPLAYS = {
    SubspaceSpectrumDisplay: {"explained_variance": SPECTRA, "n_components": [2, 1]},
    ClusterSizesDisplay: {"sizes": [30, 12], "n_components": [2, 1]},
    ModelSelectionDisplay: {
        "n_clusters": [1, 1, 2, 2],
        "n_components": [1, 3, 1, 3],
        "mean_test_score": [0.1, 0.2, 0.4, 0.3],
        "std_test_score": [0.01, 0.02, 0.03, 0.04],
        "best_index": 2,
    },
    SubspacesDisplay: {
        "X": np.eye(3),
        "labels": np.array([0, 0, 1]),
        "components": [np.eye(2, 3), np.array([[0.0, 0.0, 1.0]])],
    },
}
each_display = pytest.mark.parametrize(
    ("display", "data"),
    DISPLAYS.items(),
    ids=lambda value: getattr(value, "__name__", ""),
)


@pytest.fixture
def plt():
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []
    yield plt
    plt.close("all")


def axes(projection=None):
    """Axes that pyplot does not know."""
    return Figure().add_subplot(projection=projection)


def fitted(n_features=3, n_components=1):
    X, _, _ = make_subspaces(
        60, n_features, n_clusters=2, n_components=n_components, random_state=0
    )
    return KSubspaces(2, n_components, random_state=0).fit(X), X


def inertia_score(estimator, X, y=None):
    """Negative mean squared distance: a score that needs no likelihood."""
    return -np.mean(estimator.transform(X).min(axis=1) ** 2)


def search(estimator, grid, **options):
    X, _, _ = make_subspaces(60, 4, n_clusters=2, noise=0.1, random_state=0)
    options = {"scoring": inertia_score, "cv": 2} | options
    return GridSearchCV(estimator, grid, **options).fit(X)


@each_display
def test_a_new_figure_is_made_only_without_axes(display, data, plt):
    drawn = display(**data)
    projection = "3d" if display is SubspacesDisplay else None
    given = axes(projection)
    assert drawn.plot(ax=given) is drawn
    assert drawn.ax_ is given
    assert drawn.figure_ is given.figure
    assert plt.get_fignums() == []
    assert drawn.plot().figure_ is plt.gcf()
    assert len(plt.get_fignums()) == 1


@each_display
def test_every_axis_has_a_label_and_draws(display, data):
    projection = "3d" if display is SubspacesDisplay else None
    drawn = display(**data).plot(ax=axes(projection))
    drawn.figure_.canvas.draw()
    assert drawn.ax_.get_xlabel()
    assert drawn.ax_.get_ylabel()


def test_the_package_loads_neither_dask_nor_matplotlib_and_names_the_extra():
    code = """
import sys
sys.modules["matplotlib"] = sys.modules["matplotlib.pyplot"] = None
from kprojclust.plotting import ClusterSizesDisplay
assert "dask" not in sys.modules
try:
    ClusterSizesDisplay(sizes=[1], n_components=[1]).plot()
except ImportError as error:
    assert "pip install matplotlib" in str(error) and "[plot]" in str(error)
else:
    raise SystemExit("no ImportError")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("display", [SubspaceSpectrumDisplay, ClusterSizesDisplay])
def test_clusters_must_be_fitted(display):
    with pytest.raises(NotFittedError):
        display.from_estimator(KSubspaces())


def test_spectrum_has_one_line_and_one_ring_per_cluster():
    model, _ = fitted()
    model.explained_variance_, model.n_components_ = SPECTRA, np.array([2, 1])
    drawn = SubspaceSpectrumDisplay.from_estimator(model, ax=axes())
    for line, spectrum in zip(drawn.lines_, SPECTRA, strict=True):
        assert_allclose(line.get_xydata(), np.c_[[1, 2, 3], spectrum])
    rings = [mark.get_xydata()[0] for mark in drawn.marks_]
    assert_allclose(rings, [[2, 1], [1, 9]])
    entries = [text.get_text() for text in drawn.ax_.get_legend().get_texts()]
    assert entries == ["cluster 0", "cluster 1", "n_components_"]


def test_spectrum_has_no_ring_for_a_subspace_of_dimension_zero():
    data = {"explained_variance": SPECTRA, "n_components": [0, 3]}
    drawn = SubspaceSpectrumDisplay(**data).plot(ax=axes())
    sizes = [len(mark.get_xdata()) for mark in drawn.marks_]
    assert sizes == [0, 1]


def test_spectrum_passes_keywords_on():
    data = DISPLAYS[SubspaceSpectrumDisplay]
    drawn = SubspaceSpectrumDisplay(**data).plot(ax=axes(), linewidth=5)
    assert [line.get_linewidth() for line in drawn.lines_] == [5, 5]


def test_sizes_count_the_rows_also_of_empty_clusters():
    model, _ = fitted()
    model.labels_ = np.array([0, 0, 2])
    model.n_components_ = np.array([1, 3, 2])
    drawn = ClusterSizesDisplay.from_estimator(model, ax=axes())
    assert [bar.get_height() for bar in drawn.bars_] == [2, 0, 1]
    texts = [text.get_text() for text in drawn.texts_]
    assert texts == ["2\nj = 1", "0\nj = 3", "1\nj = 2"]


def test_sizes_of_many_clusters_show_dimensions_only():
    drawn = ClusterSizesDisplay(sizes=[5] * 13, n_components=[2] * 13).plot(ax=axes())
    assert {text.get_text() for text in drawn.texts_} == {"j = 2"}


def test_search_over_both_draws_a_table_and_marks_the_best():
    drawn = ModelSelectionDisplay(**DISPLAYS[ModelSelectionDisplay]).plot(ax=axes())
    assert_allclose(drawn.im_.get_array(), [[0.1, 0.4], [0.2, 0.3]])
    assert drawn.best_.get_xy() == (0.5, -0.5)
    assert drawn.best_.get_label() == "best: n_clusters = 2, n_components = 1"
    ticks = [label.get_text() for label in drawn.ax_.get_yticklabels()]
    assert ticks == ["1", "3"]
    assert {text.get_text() for text in drawn.ax_.texts} == {"0.1", "0.2", "0.3", "0.4"}


def test_search_table_agrees_with_the_search():
    grid = {"n_components": [1, 2], "n_clusters": [3, 1, 2]}
    found = search(KSubspaces(random_state=0), grid)
    drawn = ModelSelectionDisplay.from_estimator(found, ax=axes())
    shown = np.asarray(drawn.im_.get_array())
    means = found.cv_results_["mean_test_score"].reshape(3, 2)
    assert_allclose(shown, means[[1, 2, 0]].T)
    k, j = (found.best_params_[name] for name in ("n_clusters", "n_components"))
    assert drawn.best_.get_label() == f"best: n_clusters = {k}, n_components = {j}"


def test_search_over_one_draws_a_line_with_the_spread_of_the_folds():
    found = search(
        KSubspaces(n_components=2, random_state=0), {"n_clusters": [1, 2, 4]}
    )
    drawn = ModelSelectionDisplay.from_estimator(
        found, ax=axes(), score_name="gain (points)"
    )
    line, _, (bars,) = drawn.errorbar_
    means = found.cv_results_["mean_test_score"]
    deviations = found.cv_results_["std_test_score"]
    assert_allclose(line.get_xydata(), np.c_[[1, 2, 4], means])
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    assert_allclose(ends, np.c_[means - deviations, means + deviations])
    assert_allclose(
        drawn.best_.get_xydata(), [[found.best_params_["n_clusters"], means.max()]]
    )
    assert drawn.ax_.get_ylabel() == "mean test gain (points)"


def test_search_over_unequal_dimensions_names_them():
    grid = {"n_components": [1, [1, 2], [2, 2]]}
    found = search(KSubspaces(2, random_state=0), grid)
    drawn = ModelSelectionDisplay.from_estimator(found, ax=axes())
    drawn.figure_.canvas.draw()
    ticks = [label.get_text() for label in drawn.ax_.get_xticklabels()]
    assert ticks == ["1", "(1, 2)", "(2, 2)"]


def test_search_in_a_pipeline_ignores_the_n_components_of_other_steps():
    pipeline = make_pipeline(PCA(), KSubspaces(random_state=0))
    grid = {"pca__n_components": [3, 4], "ksubspaces__n_clusters": [1, 2]}
    found = search(
        pipeline, grid, scoring=lambda model, X, y=None: -len(model[1].components_)
    )
    drawn = ModelSelectionDisplay.from_estimator(found, ax=axes())
    assert_allclose(drawn.errorbar_[0].get_xydata(), [[1, -1], [2, -2]])
    assert drawn.n_components == [1] * 4


def test_search_shows_the_best_of_other_parameters_and_of_several_grids():
    grid = [
        {"n_clusters": [1], "tol": [0.1, 0.9]},
        {"n_clusters": [3], "n_components": [2], "tol": [0.2]},
    ]
    found = search(
        KSubspaces(random_state=0), grid, scoring=lambda model, X, y=None: model.tol
    )
    drawn = ModelSelectionDisplay.from_estimator(found, ax=axes())
    shown = np.asarray(drawn.im_.get_array())
    assert_allclose(shown, [[0.9, np.nan], [np.nan, 0.2]])


def test_search_with_several_scores_shows_that_of_refit():
    scoring = {"gain": inertia_score, "other": lambda model, X, y=None: 0.0}
    found = search(
        KSubspaces(random_state=0),
        {"n_clusters": [1, 2]},
        scoring=scoring,
        refit="gain",
    )
    drawn = ModelSelectionDisplay.from_estimator(found, ax=axes())
    assert_allclose(drawn.mean_test_score, found.cv_results_["mean_test_gain"])
    assert drawn.ax_.get_ylabel() == "mean test gain"
    found.refit = False
    with pytest.raises(ValueError, match="Got refit=False"):
        ModelSelectionDisplay.from_estimator(found, ax=axes())


def test_search_must_be_fitted_and_vary_k_or_j():
    with pytest.raises(NotFittedError):
        ModelSelectionDisplay.from_estimator(GridSearchCV(KSubspaces(), {}))
    found = search(KSubspaces(2, random_state=0), {"tol": [0.1, 0.2]})
    with pytest.raises(ValueError, match=r"must vary .* Got the parameters \['tol'\]"):
        ModelSelectionDisplay.from_estimator(found)


def test_subspaces_draw_rows_lines_and_distances():
    model, X = fitted()
    drawn = SubspacesDisplay.from_estimator(model, X, ax=axes("3d"))
    assert [len(points.get_offsets()) for points in drawn.points_] == [30, 30]
    for c, line in drawn.subspaces_.items():
        ends = np.array(line.get_data_3d()).T
        assert_allclose(model.transform(ends)[:, c], 0, atol=1e-7)
        reach = np.linalg.norm(X[model.labels_ == c], axis=1).max()
        assert np.linalg.norm(ends[0]) == pytest.approx(1.1 * reach)
        pieces = np.array(drawn.distances_[c].get_data_3d()).T
        assert_allclose(pieces[0::3], X[model.labels_ == c])
        assert_allclose(pieces[1::3], model.project(X)[model.labels_ == c])


def test_subspaces_pass_through_their_means():
    shift = np.array([[0.0, 0.0, 5.0], [0.0, 7.0, 0.0]])
    data = DISPLAYS[SubspacesDisplay] | {"means": shift}
    drawn = SubspacesDisplay(**data).plot(ax=axes("3d"))
    ends = np.array(drawn.subspaces_[1].get_data_3d()).T
    assert_allclose(ends.mean(axis=0), shift[1])
    nearest = np.array(drawn.distances_[0].get_data_3d()).T[1::3]
    assert_allclose(nearest, [[1, 0, 5], [0, 1, 5]])


def test_subspaces_of_all_dimensions_have_one_scale():
    X = np.random.default_rng(0).standard_normal((20, 3))
    bases = [np.eye(3)[:j] for j in range(4)]
    drawn = SubspacesDisplay(X=X, labels=np.arange(20) % 4, components=bases)
    drawn.plot(ax=axes("3d"))
    drawn.figure_.canvas.draw()
    assert sorted(drawn.subspaces_) == [0, 1, 2]
    entries = [text.get_text() for text in drawn.ax_.get_legend().get_texts()]
    kinds = ["point", "line", "plane", "whole space"]
    assert entries == [f"cluster {c}, {kind}" for c, kind in enumerate(kinds)]
    ranges = np.ptp(np.reshape(drawn.ax_.get_w_lims(), (3, 2)), axis=1)
    assert_allclose(ranges, ranges[0])


def test_subspaces_take_the_names_of_the_features():
    pandas = pytest.importorskip("pandas")
    model, X = fitted()
    table = pandas.DataFrame(X, columns=["length", "width", "height"])
    drawn = SubspacesDisplay.from_estimator(model.fit(table), table, ax=axes("3d"))
    assert drawn.ax_.get_zlabel() == "height"


def test_subspaces_leave_empty_clusters_out():
    data = DISPLAYS[SubspacesDisplay] | {"labels": np.zeros(3, dtype=int)}
    drawn = SubspacesDisplay(**data).plot(ax=axes("3d"))
    assert list(drawn.subspaces_) == [0]


def test_subspaces_refuse_other_models_and_axes():
    with pytest.raises(NotFittedError):
        SubspacesDisplay.from_estimator(KSubspaces(), np.eye(3))
    model, X = fitted(n_features=4)
    with pytest.raises(ValueError, match="Got n_features_in_=4"):
        SubspacesDisplay.from_estimator(model, X)
    model, X = fitted()
    with pytest.raises(ValueError, match='Got projection="rectilinear"'):
        SubspacesDisplay.from_estimator(model, X, ax=axes())
