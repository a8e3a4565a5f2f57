"""Points lost against the uncompressed models, from the rows of trials."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from glue_rows import Result, Trial

Results = Mapping[Trial, Result]
Losses = dict[Trial, float]


class Kind(NamedTuple):
    """What stands side by side in tables and pictures."""

    method: str
    num_clusters: int

    def __str__(self) -> str:
        if self.method == "SVD":
            return "SVD"
        return f"{self.method}, k = {self.num_clusters}"


SVD, K_MEANS, MESSI, OURS = (
    Kind("SVD", 1),
    Kind("k-means", 5),
    Kind("MESSI", 5),
    Kind("ours", 5),
)
OTHER_COUNTS = Kind("MESSI", 3), Kind("MESSI", 10)


def losses(results: Results, field: str) -> Losses:
    """Points lost by a score, of the trials that have it."""
    baselines = {
        trial.task: result.score_before
        for trial, result in results.items()
        if trial.method == "uncompressed"
    }
    lost = {
        trial: baselines.get(trial.task, np.nan) - getattr(result, field)
        for trial, result in results.items()
    }
    return {trial: points for trial, points in lost.items() if not np.isnan(points)}


def over_seeds(
    lost: Losses, tasks: Collection[str], kind: Kind, rate: float = 0.0, rank: int = 0
) -> list[float]:
    """Average over the tasks, for each seed that has them all."""
    wanted = *kind, rate, rank
    by_seed = defaultdict(list)
    for trial, points in lost.items():
        found = trial.method, trial.num_clusters, trial.rate, trial.rank
        if found == wanted and trial.task in tasks:
            by_seed[trial.seed].append(points)
    return [float(np.mean(x)) for x in by_seed.values() if len(x) == len(tasks)]


def rates_of(lost: Losses, task: str | None = None) -> list[float]:
    """The rates that were tried, on a task or at all."""
    rates = {trial.rate for trial in lost if task in (None, trial.task)}
    return sorted(rates - {0})


def best_by_training(after: Results) -> Losses:
    """For each task, rate and seed the k of the best training score, SVD among them."""
    best: dict[tuple[str, float, int], Trial] = {}
    for trial, result in after.items():
        key = trial.task, trial.rate, trial.seed
        is_one = trial.method in ("SVD", "MESSI") and trial.rate
        if is_one and (
            key not in best or result.training_score > after[best[key]].training_score
        ):
            best[key] = trial
    lost = losses(after, "score_after")
    return {trial: lost[trial] for trial in best.values() if trial in lost}
