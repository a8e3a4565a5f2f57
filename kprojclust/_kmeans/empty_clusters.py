"""Policies for empty clusters."""

from typing import NamedTuple

import numpy as np

from kprojclust._geometry.averages import cluster_means
from kprojclust._kmeans.lloyd import State, assign
from kprojclust._kmeans.moves import move_centers

# Attempts of an iteration to fill its empty clusters.
_MAX_ROUNDS = 5

# Over-relaxation: how far centres go beyond the means of their rows, in steps.
_BEYOND = 0.8


class Filled(NamedTuple):
    """A state after empty clusters were filled, and the passes that took."""

    state: State
    n_rounds: int = 0
    n_e_steps: int = 0  # beyond the one that found them
    gave_up: bool = False


def _means(problem, state):
    return cluster_means(problem.X, problem.row_weights, state.labels, state.centers)


class Policy:
    """Rounds of moving the centres of empty clusters and assigning the rows."""

    # Of the update steps, see `move_centers`.
    caution = 1.0

    def refit(self, problem, state, caution):
        """The centres of the next iteration."""
        return _means(problem, state)

    def fill(self, problem, state, random_state):
        """Fill empty clusters as far as possible."""
        n_rounds = 0
        while len(state.empty) and n_rounds < _MAX_ROUNDS:
            centers, n_moved = self.relocate(problem, state)
            if not n_moved:
                break
            state = assign(problem, centers)
            n_rounds += 1
        return Filled(state, n_rounds, n_rounds)

    def relocate(self, problem, state):
        """Centres, those of empty clusters moved, and how many moved."""
        raise NotImplementedError


class PartitionPolicy(Policy):
    """Centres of empty and mergeable clusters move to clusters worth a split."""

    caution = 0.6

    def refit(self, problem, state, caution):
        """Means, some of which moved; at first the others are over-relaxed."""
        means = _means(problem, state)
        centers, _ = self._moved(problem, state, means, caution)
        if caution < 1:
            stay = np.all(centers == means, axis=1)
            centers[stay] += _BEYOND * (means - state.centers)[stay]
        return centers

    def relocate(self, problem, state):
        """See `move_centers`."""
        return self._moved(problem, state, _means(problem, state), 1.0)

    @staticmethod
    def _moved(problem, state, means, caution):
        weights = problem.row_weights
        return move_centers(problem.X, weights, state.labels, means, caution)


class FarthestPolicy(Policy):
    """Empty clusters go to the rows farthest from their centres, as in scikit-learn.

    None is taken from a cluster that has no other row.
    """

    def relocate(self, problem, state):
        """The farthest rows as centres."""
        costs = np.where(problem.row_weights > 0, state.squared, 0)
        members = np.bincount(state.labels[problem.row_weights > 0])
        centers, empty = state.centers.copy(), state.empty.tolist()
        n_empty = len(empty)
        for row in np.argsort(-costs, kind="stable"):
            if not empty or costs[row] <= 0:
                break
            if members[state.labels[row]] > 1:
                members[state.labels[row]] -= 1
                centers[empty.pop(0)] = problem.X[row]
        return centers, n_empty - len(empty)


class PerturbPolicy(Policy):
    """The heuristic of iPQ: an empty cluster takes a copy of the largest one's centre.

    Both are moved apart by noise, and all rows are assigned again: one assignment step
    for each empty cluster, up to ``max_tentatives``.
    """

    noise = 1e-6

    def __init__(self, max_tentatives):
        self.max_tentatives = max_tentatives

    def fill(self, problem, state, random_state):
        """Split the largest cluster again and again."""
        for n_tried in range(self.max_tentatives + 1):
            empty = state.empty
            gave_up = len(empty) > 0 and n_tried == self.max_tentatives
            if not len(empty) or gave_up:
                break
            centers, largest = state.centers.copy(), np.argmax(state.weights)
            noise = self.noise * random_state.standard_normal(centers.shape[1])
            centers[random_state.choice(empty)] = centers[largest] + noise
            centers[largest] -= noise
            state = assign(problem, centers)
        return Filled(state, n_tried, n_tried, gave_up)
