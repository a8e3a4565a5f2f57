"""Compress a model group after group, with training in between."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_messi.allocation.planning import make_plan
from keras_messi.calibration.statistics import CalibrationStatistics
from keras_messi.compression import compress
from keras_messi.configs import BudgetConfig, Config
from keras_messi.models.adapter import family_of
from keras_messi.models.keras.surgery import Filters
from keras_messi.report import CompressionReport


def compress_in_groups(
    model: keras.Model,
    config: Config | Sequence[Config],
    groups: Sequence[Filters],
    fine_tune: Callable[[Any], Any],
    *,
    calibration_data: Any = None,
    verbose: bool = False,
) -> tuple[keras.Model, list[CompressionReport]]:
    """Make a smaller copy of a model, some layers at a time, and train in between.

    After each group, `fine_tune` trains the whole model: layers that are compressed
    train their factors, and those whose turn is still to come adapt to the errors
    that were made before them. With product quantization this is the schedule of iPQ.

    Everything is checked before the first layer is fitted, and the model that is
    passed in is never changed, whatever `fine_tune` raises.

    Args:
        model: A built model of any class, or of transformers, as for `compress`.
        config: What to do with each layer, or a list with one config for each group.
            Under `scope="model"` the layers of a group share a budget.
        groups: Which layers, group after group in order: each as the `filters` of
            `compress`. No layer may be in two groups.
        fine_tune: A function that is given the model after each group, the last one
            too, and trains it in place. The model is compiled if `model` was, with a
            fresh optimizer.
        calibration_data: Inputs, as for `compress`, that can be gone through for each
            group again: statistics are collected again each time.
        verbose: Whether to show progress bars on stderr.

    Returns:
        The new model, trained after its last group, and for each group a
        `CompressionReport` on the model before it and the one after, not trained yet.

    Raises:
        ValueError: There are no groups, not as many configs as groups, a group has no
            layer that can be compressed, a layer is in two groups, or what `compress`
            raises. What `fine_tune` raises is passed on.

    Example:

    >>> import keras, keras_messi
    >>> layers = keras.layers.Dense(300), keras.layers.Dense(100, name="last")
    >>> model = keras.Sequential([keras.Input((784,)), *layers])
    >>> config = keras_messi.MessiConfig(rate=0.8, num_clusters=2)
    >>> def fine_tune(model):
    ...     model.compile("adam", "mse")
    ...     # model.fit(x_train, y_train, epochs=2)
    >>> small, reports = keras_messi.compress_in_groups(
    ...     model, config, ["dense", "last"], fine_tune
    ... )
    >>> [row.path for report in reports for row in report.replaced][1]
    'last'

    Reference:
        - [Stock et al., 2020](https://arxiv.org/abs/1907.05686): one layer after
          another, with fine-tuning in between.
    """
    configs = _one_for_each(config, groups)
    if not callable(fine_tune):
        raise ValueError(
            f"`fine_tune` must be a function. Received: fine_tune={fine_tune!r}"
        )
    if isinstance(calibration_data, CalibrationStatistics):
        raise ValueError(
            "`calibration_data` must be inputs, which are run through the model for "
            "each group again. Received: statistics of `calibrate`"
        )
    reports = []
    for paths, own in zip(_paths(model, configs, groups), configs, strict=True):
        # Paths and not the filters: these may match new layers.
        exactly = [f"^{re.escape(path)}$" for path in paths]
        model, report = compress(
            model, own, exactly, calibration_data=calibration_data, verbose=verbose
        )
        reports.append(report)
        fine_tune(model)
    return model, reports


def _one_for_each(
    config: Config | Sequence[Config], groups: Sequence[Filters]
) -> list[Config]:
    """A config for each group."""
    if isinstance(groups, str) or not isinstance(groups, Sequence) or not groups:
        raise ValueError(
            "`groups` must be a list of filters, one for each group. "
            f"Received: groups={groups!r}"
        )
    configs = config if isinstance(config, Sequence) else [config]
    if any(isinstance(x, BudgetConfig) for x in configs):
        raise ValueError(
            "`config` must say what to do with the layers of a group, which a "
            f"BudgetConfig for the whole file does not. Received: config={config}"
        )
    if not isinstance(config, Sequence):
        return [config] * len(groups)
    if len(config) != len(groups):
        raise ValueError(
            f"`config` must be one config or as many as groups, {len(groups)}. "
            f"Received: {len(config)} configs"
        )
    return list(config)


def _paths(
    model: Any, configs: Sequence[Config], groups: Sequence[Filters]
) -> list[list[str]]:
    """Paths of the layers to compress in each group, of which none is in two."""
    layers, found = family_of(model).find_layers(model), []
    group_of: dict[str, int] = {}
    for i, (config, filters) in enumerate(zip(configs, groups, strict=True)):
        paths = [x.path for x in make_plan(layers, config, filters).layers]
        for path in paths:
            if path in group_of:
                raise ValueError(
                    "`groups` must not share a layer. Received: layer "
                    f"'{path}' in {groups[group_of[path]]!r} and in {filters!r}"
                )
            group_of[path] = i
        found.append(paths)
    return found
