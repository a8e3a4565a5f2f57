"""Runs from different starts exchange clusters where that lowers the objective."""

import numpy as np

from kprojclust._geometry.distances import distances_to_flats
from kprojclust._geometry.subspaces import dimensions_of


def exchange_clusters(problem, flats, others, least_gain):
    """Flats of one run, some swapped for better ones of another run.

    As long as the objective falls, the swap that lowers it most replaces one flat by
    one of the same dimension from the other run. The rows must be in memory, without a
    budget. None if all swaps together lower the objective by a share below least_gain.
    """
    n_clusters, everyone = len(flats), [*flats, *others]
    distances = distances_to_flats(problem.rows.X, everyone, problem.p)
    # Flat by flat, so that all that follows runs along the rows.
    costs = problem.loss.rho(distances).T.astype(np.float64, order="C")
    costs *= problem.rows.sample_weight
    dimensions = dimensions_of(everyone)
    chosen = np.arange(n_clusters)
    objective = before = costs[chosen].min(axis=0).sum()
    for _ in range(n_clusters):
        swap = _best_swap(costs, chosen, dimensions)
        if swap is None or swap[0] >= objective:
            break
        objective, slot, newcomer = swap
        chosen[slot] = newcomer
    if objective >= (1 - least_gain) * before:
        return None
    return [everyone[c] for c in chosen]


def _best_swap(costs, chosen, dimensions):
    """Objective, slot and newcomer of the best single swap, None if there is none.

    Whatever leaves, a row costs no more than its best flat and the newcomer allow. If
    that best flat is the one to leave, it costs more: by what is added up here.
    """
    newcomers = np.setdiff1d(np.arange(len(costs)), chosen)
    slots, rows = np.arange(len(chosen)), np.arange(costs.shape[1])
    own = costs[chosen]
    nearest = own.argmin(axis=0)
    best = own[nearest, rows]
    own[nearest, rows] = np.inf
    kept = np.minimum(costs[newcomers], best)
    lost = np.minimum(costs[newcomers], own.min(axis=0)) - kept
    totals = lost @ np.equal.outer(slots, nearest).astype(np.float64).T
    totals += kept.sum(axis=1)[:, np.newaxis]
    totals[dimensions[newcomers][:, np.newaxis] != dimensions[chosen]] = np.inf
    newcomer, slot = np.unravel_index(totals.argmin(), totals.shape)
    if totals[newcomer, slot] == np.inf:
        return None
    return float(totals[newcomer, slot]), int(slot), int(newcomers[newcomer])
