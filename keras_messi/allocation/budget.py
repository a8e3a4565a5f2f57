"""Allocation of one budget of numbers to the layers of a model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from keras_messi.configs import MessiConfig
from keras_messi.methods.clustering import Factors, factorize


class RankGains(NamedTuple):
    """Candidate ranks of a matrix: the error that each direction removes, and its cost.

    The error is relative: 1 without any number, 0 with the whole matrix.

    Attributes:
        gains: Error that each direction of each cluster removes, shape (m,).
        costs: Numbers that each direction takes, shape (m,).
        needed: Which directions must be taken: the first of each cluster, shape (m,).
        size: Numbers in the whole matrix.
    """

    gains: np.ndarray
    costs: np.ndarray
    needed: np.ndarray
    size: int


def rank_gains(
    matrix: np.ndarray, config: MessiConfig, weights: np.ndarray | None = None
) -> RankGains:
    """Gains of a matrix that is clustered as if it were the only one.

    Args:
        matrix: Array of shape (n, d).
        config: What to do; with "auto", the most of 1, 2 and 5 clusters that fit.
        weights: Array of shape (n,), how much the squared error of each row counts.
    """
    n, d = matrix.shape
    counts = [1, 2, 5] if config.num_clusters == "auto" else [config.num_clusters]
    options = [replace(config, num_clusters=k) for k in counts]
    fitting = [x for x in options if x.rank_for(n, d)] or options[:1]
    factors = factorize(matrix, fitting[-1], weights=weights)
    scales = np.ones(n) if weights is None else np.sqrt(weights)
    return _gains_of(factors, matrix * scales[:, np.newaxis])


def _gains_of(factors: Factors, rows: np.ndarray) -> RankGains:
    """Gains of clusters of rows."""
    energy = float(np.sum(np.square(rows), dtype=np.float64)) or 1.0
    gains: Any = []
    costs: Any = []
    needed: Any = []
    for c in range(len(factors.bases)):
        own = rows[factors.assignments == c]
        found = np.linalg.svd(own, compute_uv=False).astype(np.float64) ** 2 / energy
        gains.append(found)
        costs.append(np.full(len(found), len(own) + rows.shape[1]))
        needed.append(np.arange(len(found)) == 0)
    gains, costs, needed = map(np.concatenate, (gains, costs, needed))
    return RankGains(gains, costs, needed, rows.size)


def allocate_numbers(gains: Mapping[str, RankGains], kept: int) -> dict[str, int]:
    """Allocate a budget, so that the last number removes as much error everywhere.

    For a Lagrange multiplier, each matrix keeps the directions that remove more error
    than the multiplier times their cost, or all its numbers. The multiplier is the
    smallest that the budget allows.

    Args:
        gains: Gains of the matrices, by name.
        kept: The budget in numbers.

    Returns:
        Numbers by name; as many as the matrix has where it is to be left whole.

    Raises:
        ValueError: Not even one direction for each cluster can be had.
    """
    least = {name: int(np.sum(one.costs[one.needed])) for name, one in gains.items()}
    if sum(least.values()) > kept:
        raise ValueError(
            "`rate` must leave one direction for each cluster: at least "
            f"{sum(least.values())} numbers. Received: a rate that leaves {kept}"
        )
    ratios = np.concatenate([x.gains / x.costs for x in gains.values()])
    multipliers = np.unique(ratios)
    low, high = -1, len(multipliers)  # too low, and high enough
    while high - low > 1:
        middle = (low + high) // 2
        taken = {name: _kept_at(x, multipliers[middle]) for name, x in gains.items()}
        if sum(taken.values()) <= kept:
            high = middle
        else:
            low = middle
    if high == len(multipliers):
        return least
    return {name: _kept_at(x, multipliers[high]) for name, x in gains.items()}


def _kept_at(one: RankGains, multiplier: float) -> int:
    """Numbers that a matrix keeps for a multiplier."""
    bought = one.needed | (one.gains > multiplier * one.costs)
    numbers = int(np.sum(one.costs[bought]))
    error = max(0.0, 1 - float(np.sum(one.gains[bought])))
    return one.size if multiplier * (one.size - numbers) <= error else numbers
