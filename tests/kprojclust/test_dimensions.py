from itertools import product

import numpy as np
import pytest

from kprojclust import KSubspaces, make_subspaces
from kprojclust._engine.update import allocate_budget, match_dimensions
from kprojclust._geometry.subspaces import decompose


@pytest.fixture
def spectra():
    """Spectra of three clusters of 8, 5 and 12 rows in four dimensions."""
    rng = np.random.default_rng(0)
    scales = np.array([4.0, 2.0, 1.0, 0.5])
    return [
        decompose(rng.standard_normal((n, 4)) * scales, np.ones(n)) for n in (8, 5, 12)
    ]


SIZES = np.array([8, 5, 12])


def left_over(spectra, dimensions):
    return sum(s.residuals()[j] for s, j in zip(spectra, dimensions, strict=True))


def test_dimensions_are_matched_to_leave_the_least(spectra):
    given = np.array([3, 1, 2])
    order = match_dimensions(spectra, given)
    found = left_over([spectra[s] for s in order], given)
    everything = [
        left_over([spectra[s] for s in choice], given)
        for choice in product(range(3), repeat=3)
        if len(set(choice)) == 3
    ]
    assert found == pytest.approx(min(everything))


@pytest.mark.parametrize("budget", [0, 8, 9, 40, 100, 147, 148, 1000])
def test_a_budget_is_spent_to_within_one_direction(spectra, budget):
    dimensions, price = allocate_budget(spectra, SIZES, budget)
    spent = dimensions @ (SIZES + 4)
    assert spent <= budget
    could_buy = [n + 4 for n, j in zip(SIZES, dimensions, strict=True) if j < 4]
    assert not could_buy or budget - spent < min(could_buy)
    assert price > 0


def test_no_choice_of_dimensions_beats_the_price(spectra):
    # Weak duality: cost plus price times numbers is least, up to one direction.
    for budget in range(0, 160, 7):
        dimensions, price = allocate_budget(spectra, SIZES, budget)
        spent, left = dimensions @ (SIZES + 4), left_over(spectra, dimensions)
        slack = price * max(SIZES + 4)
        for other in product(range(5), repeat=3):
            numbers = np.array(other) @ (SIZES + 4)
            if numbers <= budget:
                assert left_over(spectra, other) >= left - slack
                assert left_over(spectra, other) + price * numbers >= (
                    left + price * spent - slack
                )


def test_a_budget_finds_the_dimensions_that_were_planted():
    X, _, _ = make_subspaces(
        600, 15, n_clusters=3, n_components=[1, 3, 5], noise=0.01, random_state=0
    )
    planted = 200 * (1 + 3 + 5) + 15 * (1 + 3 + 5)
    model = KSubspaces(3, max_parameters=planted + 10, random_state=0).fit(X)
    assert sorted(model.n_components_) == [1, 3, 5]


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 1.2])
def test_the_budget_is_kept_and_labels_are_predictions(affine, share):
    X, _, _ = make_subspaces(300, 12, n_components=[1, 3, 5], noise=0.2, random_state=1)
    weight = np.random.default_rng(0).uniform(0.2, 3, 300)
    budget = int(share * X.size)
    model = KSubspaces(4, max_parameters=budget, affine=affine, random_state=0)
    model.fit(X, sample_weight=weight)
    assert model.n_parameters_ <= budget
    assert np.array_equal(model.labels_, model.predict(X, sample_weight=weight))
    widest = np.bincount(model.labels_).max() + 12
    assert model.n_parameters_ > min(budget, X.size) - 2 * widest


def test_a_larger_budget_leaves_less():
    X, _, _ = make_subspaces(300, 12, n_components=4, noise=0.2, random_state=1)
    inertia = [
        KSubspaces(3, max_parameters=budget, random_state=0).fit(X).inertia_
        for budget in (400, 800, 1600, 3200)
    ]
    assert inertia == sorted(inertia, reverse=True)


def test_a_budget_beats_equal_dimensions_of_the_same_size():
    X, _, _ = make_subspaces(
        600, 15, n_components=[1, 3, 8], noise=0.05, random_state=0
    )
    equal = KSubspaces(3, 4, random_state=0).fit(X)
    shared = KSubspaces(3, max_parameters=equal.n_parameters_, random_state=0).fit(X)
    assert shared.n_parameters_ <= equal.n_parameters_
    assert shared.inertia_ < equal.inertia_


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_parameters": 10}, "one direction of one row, 11 numbers. Got 10"),
        ({"max_parameters": 40, "affine": True}, "41 numbers. Got 40"),
        ({"max_parameters": 500, "p": 1}, "max_parameters needs p=2. Got p=1"),
        ({"max_parameters": 0}, "'max_parameters' parameter of KSubspaces"),
    ],
)
def test_budgets_too_small_are_named(arguments, message):
    X = make_subspaces(random_state=0)[0]
    with pytest.raises(ValueError, match=message):
        KSubspaces(3, **arguments).fit(X)
