"""Runs from different starts exchange clusters where that lowers the objective."""

import numpy as np

from kprojclust._distances import distances_to_flats
from kprojclust._subspaces import dimensions_of


def exchange_clusters(problem, flats, others, least_gain):
    """Flats of one run, some swapped for better ones of another.

    As long as the objective falls, the swap that lowers it most replaces one flat by
    one of the same dimension from the other run.

    Parameters
    ----------
    problem : Problem
        On rows in memory; without a budget.
    flats : list of Flat
        Of the run to improve.
    others : list of Flat
        Of the run to take from.
    least_gain : float
        Share of the objective below which all swaps together do not count.

    Returns
    -------
    flats : list of Flat or None
        None if nothing is to be gained.
    """
    n_clusters, everyone = len(flats), [*flats, *others]
    distances = distances_to_flats(problem.rows.X, everyone, problem.p)
    costs = problem.loss.rho(distances).astype(np.float64)
    costs *= problem.rows.sample_weight[:, np.newaxis]
    dimensions = dimensions_of(everyone)
    chosen = np.arange(n_clusters)
    objective = before = costs[:, chosen].min(axis=1).sum()
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
    """Objective, slot and newcomer of the best single swap, None if there is none."""
    best = None
    newcomers = np.setdiff1d(np.arange(costs.shape[1]), chosen)
    for slot in range(len(chosen)):
        rest = np.delete(chosen, slot)
        fits = newcomers[dimensions[newcomers] == dimensions[chosen[slot]]]
        if not len(fits):
            continue
        floor = np.full(len(costs), np.inf)
        if len(rest):
            floor = costs[:, rest].min(axis=1)
        totals = np.minimum(costs[:, fits], floor[:, np.newaxis]).sum(axis=0)
        leader = int(np.argmin(totals))
        if best is None or totals[leader] < best[0]:
            best = float(totals[leader]), slot, int(fits[leader])
    return best
