"""Allocation of one budget of numbers to the layers of a model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from keras_messi.configs import MessiConfig
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.subspaces.clustering import factorize
from keras_messi.methods.subspaces.sides import side_of, whitened_outputs


class RankGains(NamedTuple):
    """Candidate ranks of a matrix: the error that each direction removes, and its cost.

    With all directions, as with the whole matrix, there is no error. By `rank_gains` it
    is relative: 1 without any number.

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

    def error_at(self, numbers: int) -> float:
        """The error that as many numbers leave at least."""
        order = np.argsort(-self.gains / self.costs, kind="stable")
        left = np.cumsum(self.costs[order]) > numbers
        return float(np.sum(self.gains[order][left]))


def rank_gains(matrix: LayerMatrix, config: MessiConfig) -> RankGains:
    """Gains of a matrix that is clustered as if it were the only one.

    Those of outputs are the gains of a single subspace: what clusters of them add to it
    differs little between layers.

    Args:
        matrix: The matrix, with what is known of its rows.
        config: What to do; with "auto", the most of 1, 2 and 5 clusters that fit and
            that it may choose.
    """
    if side_of(matrix, config) == "outputs":
        rows, weights, _ = whitened_outputs(matrix)
        single = np.zeros(len(rows), int)
        return _gains_of(single, rows * np.sqrt(weights)[:, np.newaxis])
    n, d = matrix.values.shape
    is_open, most = config.num_clusters == "auto", config.max_clusters
    counts = {min(k, most) for k in (1, 2, 5)} if is_open else {config.num_clusters}
    options = [replace(config, num_clusters=k) for k in sorted(counts)]
    fitting = [x for x in options if x.rank_for(n, d)] or options[:1]
    factors = factorize(matrix.values, fitting[-1], weights=matrix.weights)
    scales = np.ones(n) if matrix.weights is None else np.sqrt(matrix.weights)
    return _gains_of(factors.assignments, matrix.values * scales[:, np.newaxis])


def _gains_of(assignments: np.ndarray, rows: np.ndarray) -> RankGains:
    """Gains of clusters of rows."""
    energy = float(np.sum(np.square(rows), dtype=np.float64)) or 1.0
    gains: Any = []
    costs: Any = []
    needed: Any = []
    for c in np.unique(assignments):
        own = rows[assignments == c]
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
    error = float(np.sum(one.gains[~bought]))
    return one.size if multiplier * (one.size - numbers) <= error else numbers
