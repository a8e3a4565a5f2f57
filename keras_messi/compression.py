"""Compression of a model: plan, calibrate, allocate, fit, swap, report."""

import warnings
from functools import partial
from typing import Any

import keras
from tqdm import tqdm

from keras_messi.allocation.candidates import form_of
from keras_messi.allocation.known_inputs import statistics_for
from keras_messi.allocation.planning import (
    Plan,
    PlannedLayer,
    allocate,
    make_plan,
    selected_layers,
)
from keras_messi.allocation.sequence import check_can_be_read_again, fit_in_sequence
from keras_messi.allocation.within_budget import fit_within_budget
from keras_messi.allocation.worth import gains_of_outputs
from keras_messi.calibration.observers import collect_statistics
from keras_messi.calibration.statistics import CalibrationStatistics
from keras_messi.configs import BudgetConfig, Config, MessiConfig
from keras_messi.exporting.forecast import forecast_sizes
from keras_messi.layers.sizes import count_own_parameters, stored_bytes
from keras_messi.layers.stored_matrix import StoredMatrix
from keras_messi.methods.registry import Compressed, compress_layer
from keras_messi.models.adapter import (
    Family,
    family_of,
    open_model,
    swap_layers,
)
from keras_messi.models.keras.surgery import Filters
from keras_messi.report import CompressionReport, ReplacedLayer, SkipReason

# Squared change of the outputs, over their spread, above which there is a warning.
LARGE_CHANGE = 0.3
_ADVICE = (
    ". Fine-tune it, remove less, give `calibration_data`, or leave layers out by "
    "`filters`."
)


def compress(
    model: keras.Model,
    config: Config,
    filters: Filters = None,
    *,
    calibration_data: Any = None,
    verbose: bool = False,
) -> tuple[keras.Model, CompressionReport]:
    """Make a smaller copy of a model, by smaller forms of its large matrices.

    Everything is checked before the first layer is fitted, and the model that is
    passed in is never changed.

    Args:
        model: A built model of any class: Sequential, Functional, subclassed, with
            layers inside layers, shared layers and nested models. Its classes must
            have what Keras needs to save and load them.
        config: How small: a `BudgetConfig`, such as `BudgetConfig(times_smaller=10)`.
            Or what to do with each layer: a `MessiConfig`, such as
            `MessiConfig(rate=0.8)`, a `PQConfig` or a `RoundingConfig`.
        filters: Which layers: a regular expression searched for in the path of the
            layer, a list of them of which one must be found, or a function of the
            layer that returns a bool. None means all Dense and Embedding layers, of
            which a `MessiConfig` by itself takes the large ones: see its `scope`.
        calibration_data: Inputs like those that the model will get, without labels: an
            array, a list or dict of arrays, or batches of these, such as a
            `tf.data.Dataset`; or the statistics that `calibrate` returns. A few hundred
            do. Rows of a table then count by how often they are looked up, and kernels
            are fitted so that the outputs of their layer change least: by the second
            moment of all inputs or, if a code is fitted, the spread of each. The bias
            makes up for the mean error; what makes the outputs of a layer worse on
            these data is left out again. Where layers share a budget, each is
            compressed alone first, to see how much that changes the outputs of the
            model.
        verbose: Whether to show a progress bar on stderr.

    Returns:
        The new model, of the same class, and a `CompressionReport`. If the model was
        compiled, so is the new one, with a fresh optimizer; if its class has a
        `compile()` of its own, a warning says that it must be compiled again. Another
        one says that the outputs change much: on calibration data, or on random inputs,
        by more than .3 of their spread, both squared.

    Raises:
        ValueError: The model is not built or can't be copied, the filters match no
            layer, no matched layer can be compressed, weights are not finite, the rate
            leaves too few numbers, or the calibration data don't go with the model.

    Example:

    >>> import keras, keras_messi
    >>> model = keras.Sequential(
    ...     [keras.Input((784,)), keras.layers.Dense(300), keras.layers.Dense(10)]
    ... )
    >>> small, report = keras_messi.compress(
    ...     model, keras_messi.MessiConfig(rate=0.8, num_clusters=2), filters="dense"
    ... )
    >>> report.replaced[0].num_clusters
    2

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290), Section 2.
    """
    family, named_layers = open_model(model)
    plan = make_plan(named_layers, config, filters)
    if _is_sequential(config):
        check_can_be_read_again(calibration_data)
    statistics = statistics_for(plan, family, model, calibration_data)
    allocate(plan, statistics, partial(gains_of_outputs, family, model))
    if isinstance(config, BudgetConfig):
        with tqdm(None, "compress", unit="candidate", disable=not verbose) as bar:
            swapped, chosen = fit_within_budget(family, model, plan, statistics, bar)
        found = {one: x.found for one, x in chosen.items()}
        forms = {one: form_of(x.config) for one, x in chosen.items()}
    else:
        found, forms = _fitted(family, model, plan, calibration_data, verbose), {}
        new_layers = {one.named: x.layer for one, x in found.items()}
        swapped = swap_layers(family, model, new_layers, statistics)
    plan.skip({x: (SkipReason.REFUSED, why) for x, why in swapped.refused.items()})
    replaced = [
        _describe(one, swapped.layers[one.path], found[one], forms.get(one, ""))
        for one in plan.layers
    ]
    report = CompressionReport(
        replaced,
        plan.skipped,
        swapped.folded,
        **swapped.sizes,
        export_bytes_before=forecast_sizes(model),
        export_bytes_after=forecast_sizes(swapped.model),
        output_change=swapped.output_change,
    )
    if (swapped.output_change or 0) > LARGE_CHANGE:
        warnings.warn(report.change_as_text() + _ADVICE, stacklevel=2)
    return swapped.model, report


def _is_sequential(config: Config) -> bool:
    return isinstance(config, MessiConfig) and config.sequential


def _fitted(
    family: Family, model: Any, plan: Plan, data: Any, verbose: bool
) -> dict[PlannedLayer, Compressed]:
    """The layers of a plan, each compressed as it says."""
    bar = tqdm(None, "compress", len(plan.layers), unit="layer", disable=not verbose)
    with bar:
        if _is_sequential(plan.config):
            return fit_in_sequence(family, model, plan, data, bar.update)
        found = {}
        for one in plan.layers:
            found[one] = compress_layer(*one.task(plan.config))
            bar.update()
        return found


def calibrate(
    model: keras.Model, calibration_data: Any, filters: Filters = None
) -> CalibrationStatistics:
    """Collect calibration statistics once, for several calls of `compress`.

    Args:
        model: A built model of any class. It is left as it is.
        calibration_data: Inputs, as for `compress`.
        filters: Which layers, as for `compress`.

    Returns:
        What to pass as `calibration_data`, for the same model.

    Raises:
        ValueError: The model is not built, the filters match no layer, or the data
            don't go with the model.

    Example:

    >>> import keras, keras_messi, numpy as np
    >>> layer = keras.layers.Dense(4, name="head")
    >>> model = keras.Sequential([keras.Input((8,)), layer])
    >>> found = keras_messi.calibrate(model, np.ones((2, 8)))
    >>> list(found.by_path)
    ['head']
    """
    family = family_of(model)
    named_layers = selected_layers(family.find_layers(model), filters)
    layers = {named.path: named.layer for named in named_layers}
    return collect_statistics(model, family.observe, layers, calibration_data)


def _quantization_of(layer: keras.Layer) -> str | None:
    if isinstance(layer, StoredMatrix):
        return layer.storage.plain.quantization
    return layer.quantization_mode


def _describe(
    one: PlannedLayer, new: keras.Layer, found: Compressed, form: str
) -> ReplacedLayer:
    errors = found._asdict()
    del errors["layer"]
    return ReplacedLayer(
        path=one.path,
        layer_type=one.named.layer_type,
        shape=one.shape,
        num_clusters=getattr(new, "num_clusters", 0),
        ranks=getattr(new, "ranks", []),
        quantization=_quantization_of(new),
        parameters_before=count_own_parameters(one.layer),
        parameters_after=count_own_parameters(new),
        bytes_before=stored_bytes([one.layer]),
        bytes_after=stored_bytes([new]),
        num_codewords=getattr(new, "num_codewords", 0),
        num_codebooks=getattr(new, "num_codebooks", 0),
        block_size=getattr(new, "block_size", 0) or 0,
        form=form,
        side=getattr(new, "side", "inputs"),
        **{**errors, "adopted": [*errors["adopted"]], "dropped": [*errors["dropped"]]},
    )
