import numpy as np
import pytest
from numpy.testing import assert_allclose

from kprojclust import clustering_accuracy, principal_angles
from tests import reference


def test_accuracy_matches_the_search_over_all_renamings():
    rng = np.random.default_rng(0)
    for _ in range(20):
        true, pred = rng.integers(0, 4, (2, 12))
        slow = reference.clustering_accuracy(true, pred)
        assert clustering_accuracy(true, pred) == pytest.approx(slow)


def test_accuracy_takes_any_names_and_refuses_other_lengths():
    assert clustering_accuracy(["a", "a", "b"], [7, 7, -1]) == 1
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clustering_accuracy([0, 1], [0, 1, 1])


def test_principal_angles_of_a_known_rotation():
    A = np.eye(2, 4)
    B = np.array([[1, 0, 0, 0], [0, np.cos(0.3), np.sin(0.3), 0]])
    assert_allclose(principal_angles(A, B), [0.3, 0], atol=1e-8)


def test_principal_angles_ignore_the_choice_of_basis():
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2, 3, 6))
    mixed = rng.standard_normal((3, 3)) @ A
    assert_allclose(principal_angles(A, B), principal_angles(mixed, B), atol=1e-10)


def test_principal_angles_name_the_shapes_they_refuse():
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        principal_angles(np.ones((1, 2)), np.ones((1, 3)))
