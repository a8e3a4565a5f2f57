"""Flats from the rows themselves: only clusters that changed are decomposed anew."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kprojclust._engine import members
from kprojclust._engine.members import Members
from kprojclust._geometry.subspaces import decompose


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.standard_normal((30, 40)), rng.uniform(0.5, 2, 30)


def state(labels, weights):
    return SimpleNamespace(labels=np.asarray(labels), row_weights=weights)


@pytest.mark.parametrize("affine", [False, True])
def test_spectra_are_those_of_the_rows_after_each_change(rows, affine):
    X, weights = rows
    statistics, rng = Members(X, 3, affine), np.random.default_rng(1)
    labels = rng.integers(0, 3, len(X))
    for _ in range(4):
        labels = labels.copy()
        labels[rng.integers(len(X))] = rng.integers(3)
        weights = weights * rng.choice([1.0, 2.0])
        statistics.update(state(labels, weights))
        for c, found in enumerate(statistics.spectra()):
            own = labels == c
            true = decompose(X[own], weights[own], affine)
            assert_allclose(found.energies, true.energies, rtol=1e-9, atol=1e-9)
            flat, wanted = found.flat(4), true.flat(4)
            cosines = np.abs(np.sum(flat.components * wanted.components, axis=1))
            assert_allclose(cosines, 1, atol=1e-8)
            _, energies, along = statistics.energies(c, flat)
            assert_allclose(energies, true.energies, rtol=1e-6, atol=1e-9)
            assert_allclose(along, true.energies[:4], rtol=1e-6)


def test_clusters_that_stay_are_not_decomposed_again(rows, monkeypatch):
    X, weights = rows
    labels = np.arange(len(X)) % 3
    statistics = Members(X, 3, affine=False)
    statistics.update(state(labels, weights))
    first = list(statistics.spectra())
    seen = []
    monkeypatch.setattr(
        members,
        "decompose",
        lambda *rows: seen.append(len(rows[0])) or decompose(*rows),
    )
    moved = labels.copy()
    moved[0] = 1
    statistics.update(state(moved, weights))
    again = statistics.spectra()
    assert again[2] is first[2]
    assert sorted(seen) == [9, 11]
    statistics.update(state(moved, weights))
    assert statistics.spectra() == again
    assert len(seen) == 2


def test_more_directions_than_rows_are_completed(rows):
    X, weights = rows
    spectrum = decompose(X[:5], weights[:5])
    assert np.count_nonzero(spectrum.energies) == 5
    assert spectrum.energies.shape == (X.shape[1],)
    for n_components in (0, 3, 5, 9, 30, 40):
        flat = spectrum.flat(n_components)
        across = [] if flat.normals is None else [flat.normals]
        basis = np.vstack([flat.components, *across])
        assert flat.components.shape == (n_components, X.shape[1])
        assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-12)
        if n_components >= 5:
            left = X[:5] - X[:5] @ flat.components.T @ flat.components
            assert_allclose(left, 0, atol=1e-12)
