"""What is known of the inputs of the layers of a plan."""

from dataclasses import replace
from typing import Any

from keras_messi.allocation.planning import Plan
from keras_messi.calibration.batches import set_apart
from keras_messi.calibration.observers import collect_statistics
from keras_messi.calibration.statistics import CalibrationStatistics, TokenCounts
from keras_messi.configs import BudgetConfig
from keras_messi.models.adapter import NUM_RANDOM_INPUTS, Family, outputs_of

# Inputs to calibrate a budget of bytes on without calibration data.
NUM_RANDOM_CALIBRATION = 512


def statistics_for(
    plan: Plan, family: Family, model: Any, data: Any
) -> CalibrationStatistics | None:
    """Calibration statistics of the layers of a plan, if there are any.

    A budget of bytes needs some, and a batch of inputs that they do not know.
    """
    if isinstance(data, CalibrationStatistics):
        if isinstance(plan.config, BudgetConfig) and data.inputs is None:
            inputs = family.random_inputs(model, NUM_RANDOM_INPUTS)
            outputs = outputs_of(family, model, inputs)
            return replace(data, inputs=inputs, outputs=outputs)
        return data
    layers = {one.path: one.layer for one in plan.layers}
    if not isinstance(plan.config, BudgetConfig):
        if data is None:
            return None
        return collect_statistics(model, family.observe, layers, data)
    is_random = data is None
    if is_random:
        data = family.random_inputs(model, NUM_RANDOM_CALIBRATION)
    if is_random and data is None:
        raise ValueError(
            "`calibration_data` must be given for this model, as it is not known what "
            "inputs it takes. Received: calibration_data=None"
        )
    inputs, rest = set_apart(data)
    found = collect_statistics(model, family.observe, layers, rest)
    known = found.by_path
    if is_random:  # what is known of vocabularies without data says more
        known = {k: x for k, x in known.items() if not isinstance(x, TokenCounts)}
    return replace(
        found, by_path=known, inputs=inputs, outputs=outputs_of(family, model, inputs)
    )
