"""How much the error of each layer matters to the outputs of a model."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_messi.allocation.budget import RankGains
from keras_messi.allocation.candidates import Candidate
from keras_messi.allocation.planning import Plan, PlannedLayer
from keras_messi.allocation.within_budget import Judge
from keras_messi.calibration.statistics import CalibrationStatistics
from keras_messi.configs import MessiConfig
from keras_messi.methods.registry import fit_layer, reason_to_skip
from keras_messi.methods.subspaces.sides import side_of
from keras_messi.models.adapter import Family

# Share of the median: one batch may miss what else a layer is for.
_LEAST = 0.1


def gains_of_outputs(
    family: Family,
    model: Any,
    plan: Plan,
    statistics: CalibrationStatistics | None,
    gains: Mapping[str, RankGains],
) -> Mapping[str, RankGains]:
    """Gains in what they change of the outputs of the model.

    Each layer is compressed alone, and the model run on a batch that it is known for:
    what its outputs change, over the error of the layer, is what that is worth.

    Args:
        family: The family of the model.
        model: The model, which is left as it is.
        plan: Which layers, with their statistics.
        statistics: Calibration statistics; without them all errors count the same.
        gains: Gains in the relative error of each layer, by its path.
    """
    if statistics is None or statistics.outputs is None:
        return gains
    judge = Judge(family, model, statistics)
    worth = {one.path: _worth(one, plan.config, judge, gains) for one in plan.layers}
    known = [x for x in worth.values() if 0 < x < np.inf]
    middle = float(np.median(known)) if known else 1.0
    return {
        path: one._replace(gains=one.gains * _bounded(worth[path], middle))
        for path, one in gains.items()
    }


def _bounded(worth: float, middle: float) -> float:
    return max(worth, _LEAST * middle) if np.isfinite(worth) else middle


def _worth(
    one: PlannedLayer, config: Any, judge: Judge, gains: Mapping[str, RankGains]
) -> float:
    """Change of the outputs over the error of a layer; infinite if not known."""
    trial = _trial(one, config)
    if reason_to_skip(one.layer, trial):
        return np.inf
    found = fit_layer(one.layer, trial, one.statistics, one.weights)
    candidate = Candidate(trial, found, 0, found.error)
    error = gains[one.path].error_at(trial.numbers_for(math.prod(one.shape)))
    return judge.change({one: candidate}) / error if error else np.inf


def _trial(one: PlannedLayer, config: MessiConfig) -> MessiConfig:
    """What a layer is compressed by alone: its share, in floats, without trials."""
    trial = replace(config, scope="layer", quantization=None)
    if side_of(one.read_matrix(), config) == "outputs" or config.num_clusters == "auto":
        return replace(trial, num_clusters=1)
    return trial
