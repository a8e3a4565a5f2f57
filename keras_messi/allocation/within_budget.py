"""A model within a budget of bytes: candidates are tried, chosen and checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from tqdm import tqdm

from keras_messi.allocation.bytes import BudgetTooSmall, allocate_bytes
from keras_messi.allocation.candidates import (
    Candidate,
    best_of,
    candidates_of,
    configs_for,
)
from keras_messi.allocation.planning import Plan, PlannedLayer
from keras_messi.calibration.outputs import output_change
from keras_messi.calibration.statistics import CalibrationStatistics
from keras_messi.configs import BudgetConfig
from keras_messi.layers.kinds import is_table
from keras_messi.layers.sizes import stored_bytes
from keras_messi.models.adapter import (
    Family,
    Swapped,
    outputs_of,
    swap_layers,
)
from keras_messi.models.keras.surgery import NamedLayer
from keras_messi.report import SkipReason


class Judge:
    """Says how much the outputs of a model change with some layers replaced.

    Args:
        family: The family of the model.
        model: The model, which is left as it is.
        statistics: Calibration statistics, with inputs to compare the outputs on, and
            the outputs of the model for these.
    """

    def __init__(
        self, family: Family, model: Any, statistics: CalibrationStatistics
    ) -> None:
        assert statistics.outputs is not None
        self._family, self._model = family, model
        self._inputs, self._before = statistics.inputs, statistics.outputs

    def change(self, chosen: Mapping[PlannedLayer, Candidate]) -> float:
        """Squared change of the outputs over their spread."""
        new = {named.layer: x for named, x in _new_layers(chosen).items()}
        if not new:
            return 0.0
        with self._family.substitute(self._model, new):
            after = outputs_of(self._family, self._model, self._inputs)
        return output_change(self._before, after)


def _new_layers(
    chosen: Mapping[PlannedLayer, Candidate],
) -> dict[NamedLayer, keras.Layer]:
    return {one.named: x.found.layer for one, x in chosen.items() if x.config}


def fit_within_budget(
    family: Family,
    model: Any,
    plan: Plan,
    statistics: CalibrationStatistics | None,
    bar: tqdm,
) -> tuple[Swapped, dict[PlannedLayer, Candidate]]:
    """Swap the layers of a plan for others, so that the model fits into a budget.

    Candidates are judged by what they change of the outputs of the model, alone: those
    of a table each, of a kernel one, to which the others are as the errors of its
    outputs. What kernels change together is seen from the model with all of them
    replaced.

    Args:
        family: The family of the model.
        model: The model, which is left as it is.
        plan: Which layers, with their statistics. Those that are worth all their bytes
            are skipped.
        statistics: Calibration statistics, with inputs to compare the outputs on.
        bar: Progress bar, which counts candidates.

    Raises:
        ValueError: The budget is smaller than the smallest file.
    """
    config = plan.config
    assert isinstance(config, BudgetConfig)
    assert statistics is not None
    judge = Judge(family, model, statistics)
    configs = {one: configs_for(one, config) for one in plan.layers}
    bar.reset(sum(map(len, configs.values())))
    candidates = {}
    for one, own in configs.items():
        found = candidates_of(one, own, bar.update)
        candidates[one] = best_of(_judged(one, found, judge))
    size = family.saved_size(model)
    most = config.bytes_for(size)
    left = most - size + sum(stored_bytes([one.layer]) for one in plan.layers)
    chosen = _choose(candidates, left, judge, most)
    swapped = swap_layers(family, model, _new_layers(chosen), statistics)
    while (excess := swapped.sizes["file_bytes_after"] - most) > 0:
        spent = sum(x.num_bytes for x in chosen.values())
        chosen = _choose(candidates, spent - excess, judge, most)
        swapped = swap_layers(family, model, _new_layers(chosen), statistics)
    whole = [one.path for one, x in chosen.items() if x.config is None]
    plan.skip({path: (SkipReason.WHOLE, "") for path in whole})
    return swapped, {one: x for one, x in chosen.items() if x.config}


def _judged(
    one: PlannedLayer, candidates: Sequence[Candidate], judge: Judge
) -> list[Candidate]:
    """Candidates with what they change of the outputs of the model as their errors."""
    if is_table(one.layer):
        return [x._replace(error=judge.change({one: x})) for x in candidates]
    inexact = sorted((x for x in candidates if x.error), key=lambda x: x.error)
    if not inexact:
        return list(candidates)
    middle = inexact[len(inexact) // 2]
    worth = judge.change({one: middle}) / middle.error
    return [x._replace(error=worth * x.error) for x in candidates]


def _choose(
    candidates: Mapping[PlannedLayer, Sequence[Candidate]],
    num_bytes: int,
    judge: Judge,
    most: int,
) -> dict[PlannedLayer, Candidate]:
    """A candidate for each layer, with kernels worth what they change together."""
    by_path = {one.path: options for one, options in candidates.items()}
    kernels = {one for one in candidates if not is_table(one.layer)}
    worth = {one.path: 1.0 for one in candidates}
    try:
        for _ in range(2 if kernels and len(kernels) < len(candidates) else 1):
            taken = allocate_bytes(by_path, worth, num_bytes)
            chosen = {one: taken[one.path] for one in candidates}
            errors = sum(chosen[one].error for one in kernels)
            if errors > 0:
                change = judge.change({one: chosen[one] for one in kernels})
                worth |= {one.path: change / errors for one in kernels}
        taken = allocate_bytes(by_path, worth, num_bytes)
    except BudgetTooSmall as error:
        raise ValueError(
            "The budget must be as large as the smallest file, about "
            f"{most + error.missing} bytes. Received: {most} bytes"
        ) from None
    return {one: taken[one.path] for one in candidates}
