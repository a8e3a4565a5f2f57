"""Layers fitted one after another, each on what it gets from those before it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_messi.allocation.planning import Plan, PlannedLayer
from keras_messi.calibration.batches import input_batches
from keras_messi.calibration.observers import received
from keras_messi.calibration.statistics import CalibrationStatistics
from keras_messi.layers.kinds import is_table, read_matrix
from keras_messi.methods.registry import Compressed, compress_layer, relative_error
from keras_messi.methods.rounding import multiplied_out
from keras_messi.methods.target import target_for
from keras_messi.models.adapter import Family


def check_can_be_read_again(data: Any) -> None:
    """Raise ValueError unless calibration data can be gone through more than once."""
    if data is None or isinstance(data, CalibrationStatistics | Iterator):
        raise ValueError(
            "`calibration_data` must be inputs that can be read more than once for "
            f"`sequential=True`. Received: {type(data)}"
        )


def fit_in_sequence(
    family: Family, model: Any, plan: Plan, data: Any, done: Callable[[int], Any]
) -> dict[PlannedLayer, Compressed]:
    """Compress the layers of a plan in the order in which the model calls them.

    Tables come first. Then each kernel is fitted so that its layer, on what it gets
    from the layers that are compressed by then, gives what it gave in the model: so it
    makes up for part of their errors.

    Args:
        family: The family of the model.
        model: The model, which is left as it is.
        plan: Which layers, with their statistics.
        data: Calibration data that can be read more than once.
        done: Called with the number of layers that are fitted.
    """
    found: dict[PlannedLayer, Compressed] = {}
    stages = _stages(family, model, plan.layers, data)
    called = {one for stage in stages for one in stage}
    for one in plan.layers:
        if one not in called:
            found[one] = compress_layer(*one.task(plan.config))
    done(len(found))
    for stage in stages:
        layers = {one.path: one.layer for one in stage}
        new = {one.layer: x.layer for one, x in found.items()}
        before = received(model, family.observe, layers, data)
        with family.substitute(model, new):
            after = received(model, family.observe, layers, data)
        for one in stage:
            found[one] = _fitted(one, plan, before[one.path], after[one.path])
        done(len(stage))
    return found


def _fitted(
    one: PlannedLayer, plan: Plan, before: np.ndarray, after: np.ndarray
) -> Compressed:
    """A layer compressed on what it receives, its matrix compared with what it was."""
    target = target_for(one.layer, before, after)
    named = one.named._replace(layer=target.layer)
    known = replace(one, named=named, statistics=target.inputs)
    found = compress_layer(*known.task(plan.config))
    matrix = read_matrix(one.layer)
    error = relative_error(matrix, multiplied_out(found.layer, len(matrix)))
    return found._replace(relative_error=error)


def _stages(
    family: Family, model: Any, layers: Sequence[PlannedLayer], data: Any
) -> list[list[PlannedLayer]]:
    """Layers with kernels in the order of calls; those of one input stand together."""
    calls: list[tuple[PlannedLayer, np.ndarray]] = []

    def note(one: PlannedLayer) -> Callable[[Any], None]:
        def observer(inputs: Any) -> None:
            calls.append((one, keras.ops.convert_to_numpy(inputs)))

        return observer

    kernels = [one for one in layers if not is_table(one.layer)]
    with family.observe(model, {one.layer: note(one) for one in kernels}) as run:
        run(next(iter(input_batches(data))))
    stages: list[list[PlannedLayer]] = []
    seen: set[PlannedLayer] = set()
    last = None
    for one, inputs in calls:
        if one in seen:
            continue
        seen.add(one)
        if last is not None and np.array_equal(inputs, last):
            stages[-1].append(one)
        else:
            stages.append([one])
        last = inputs
    return stages
