import numpy as np
import pytest

from kprojclust import KSubspaces, clustering_accuracy, make_subspaces


@pytest.fixture
def stuck():
    """Planes of which two share a cluster and one has two, the start, and the truth."""
    X, y, _ = make_subspaces(300, 10, n_clusters=6, noise=0.02, random_state=4)
    start = np.where(y == 1, 0, y)
    start[np.flatnonzero(y == 2)[::2]] = 1
    return X, y, start


def test_a_relocation_leaves_the_local_optimum(stuck):
    X, y, start = stuck
    before = KSubspaces(6, 2, init=start).fit(X)
    after = KSubspaces(6, 2, init=start, n_relocations=5).fit(X)
    assert clustering_accuracy(y, before.labels_) < 0.9
    assert clustering_accuracy(y, after.labels_) > 0.99
    assert after.inertia_ < before.inertia_
    assert np.array_equal(after.labels_, after.predict(X))


def test_the_loss_curve_goes_on_downwards(stuck):
    X, _, start = stuck
    before = KSubspaces(6, 2, init=start).fit(X)
    after = KSubspaces(6, 2, init=start, n_relocations=5).fit(X)
    assert after.loss_curve_[: before.n_iter_] == before.loss_curve_
    assert np.all(np.diff(after.loss_curve_) <= 0)
    assert after.n_iter_ == len(after.loss_curve_) > before.n_iter_


def test_the_optimum_is_left_alone(stuck):
    X, y, _ = stuck
    at_truth, on = (KSubspaces(6, 2, init=y, n_relocations=n).fit(X) for n in (0, 5))
    assert on.loss_curve_ == at_truth.loss_curve_


def test_one_cluster_has_nowhere_to_go(stuck):
    X = stuck[0]
    plain, relocated = (KSubspaces(1, 2, n_relocations=n).fit(X) for n in (0, 3))
    assert plain.loss_curve_ == relocated.loss_curve_
