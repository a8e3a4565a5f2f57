"""The one verb: plan, check everything, fit, replace, report."""

import math
import warnings
from typing import Any

import keras
from tqdm import tqdm

from keras_messi.allocation.budget import make_offer, share_numbers
from keras_messi.allocation.planning import check_any_left, plan, selected_places, skip
from keras_messi.calibration.observers import collect_statistics
from keras_messi.calibration.statistics import (
    Calibration,
    CalibrationStatistics,
    weights_of_rows,
)
from keras_messi.configs import Config, MessiConfig
from keras_messi.layers.kinds import matrix_shape, read_matrix
from keras_messi.methods.registry import Compressed, compress_layer
from keras_messi.models.adapter import family_of
from keras_messi.models.keras.sizes import count_parameters, stored_bytes
from keras_messi.models.keras.surgery import Filters, LayersRefused, Place, Surgery
from keras_messi.report import (
    CompressionReport,
    ReplacedLayer,
    SkippedLayer,
    SkipReason,
)


def compress(
    model: keras.Model,
    config: Config,
    filters: Filters = None,
    *,
    calibration_data: Any = None,
    verbose: bool = False,
) -> tuple[keras.Model, CompressionReport]:
    """Make a smaller copy of a model by clustering in its Dense and Embedding layers.

    Everything is checked before the first layer is fitted, and the model that is
    passed in is never changed.

    Args:
        model: A built model of any class: Sequential, Functional, subclassed, with
            layers inside layers, shared layers and nested models. Its classes must
            have what Keras needs to save and load them.
        config: What to do with each layer: a `MessiConfig`, such as
            `MessiConfig(rate=0.8)`, or a `PQConfig`.
        filters: Which layers: a regular expression searched for in the path of the
            layer, a list of them of which one must be found, or a function of the
            layer that returns a bool. None means all Dense and Embedding layers.
        calibration_data: Inputs like those that the model will get, without labels: an
            array, a list or dict of arrays, or batches of these, such as a
            `tf.data.Dataset`; or what `calibrate` found out with them. A few hundred
            do. Rows of a table then count by how often they are looked up, rows of a
            kernel by the spread of their input, and the bias makes up for the mean
            error; what makes the outputs of a layer worse on these data is left out
            again.
        verbose: Whether to show a progress bar on stderr.

    Returns:
        The new model, of the same class, and a `CompressionReport`. If the model was
        compiled, so is the new one, with a fresh optimizer; if its class has a
        `compile()` of its own, a warning says that it must be compiled again.

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
    family = family_of(model)
    surgery = family.surgery
    chosen, skipped = plan(surgery.find_layers(model), config, filters)
    surgery.replace_layers(model, {})  # what can't be copied fails before the fit
    known = _statistics(model, surgery, chosen, calibration_data)
    numbers = _share(chosen, config, known)
    if isinstance(config, MessiConfig) and not isinstance(config.quantization, str):
        chosen, whole = _without_whole(chosen, numbers)
        skipped += whole
        check_any_left(chosen, config, skipped)
    compressed = {
        place: compress_layer(
            place.layer, config, known.get(place.path), numbers.get(place.path)
        )
        for place in tqdm(chosen, desc="compress", unit="layer", disable=not verbose)
    }
    new_layers = {place: found.layer for place, found in compressed.items()}
    small, refused = _replace(surgery, model, new_layers)
    skipped += [
        skip(place, SkipReason.REFUSED, reason) for place, reason in refused.items()
    ]
    kept = [place for place in chosen if place not in refused]
    check_any_left(kept, config, skipped)
    small, folded = family.fold(small)
    if getattr(model, "compiled", False) and not small.compiled:
        warnings.warn(
            f"The new model '{small.name}' must be compiled again: its class "
            f"{type(model).__name__} has a compile() of its own.",
            stacklevel=2,
        )
    layers = {place.path: place.layer for place in surgery.find_layers(small)}
    replaced = [
        _describe(place, layers[place.path], compressed[place]) for place in kept
    ]
    return small, CompressionReport(
        replaced, skipped, folded, **_sizes(surgery, model, small)
    )


def calibrate(
    model: keras.Model, calibration_data: Any, filters: Filters = None
) -> CalibrationStatistics:
    """Find out once, for several calls of `compress`, what layers receive on data.

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
    surgery = family_of(model).surgery
    places = selected_places(surgery.find_layers(model), filters)
    return _collect(model, surgery, places, calibration_data)


def _statistics(
    model: Any, surgery: Surgery, places: list[Place], data: Any
) -> dict[str, Calibration]:
    """What is known of the inputs of layers, by path."""
    if data is None:
        return {}
    if not isinstance(data, CalibrationStatistics):
        return _collect(model, surgery, places, data).by_path
    for path, layer, _ in places:
        expected, found = matrix_shape(layer)[0], data.by_path.get(path)
        if found is not None and found.size != expected:
            raise ValueError(
                "`calibration_data` must be of the same model. Received: data on "
                f"{found.size} inputs or ids at layer '{path}', which has {expected}"
            )
    return data.by_path


def _collect(
    model: Any, surgery: Surgery, places: list[Place], data: Any
) -> CalibrationStatistics:
    layers = {place.path: place.layer for place in places}
    return collect_statistics(model, surgery.observe, layers, data)


def _replace(
    surgery: Surgery, model: Any, new_layers: dict[Place, keras.Layer]
) -> tuple[Any, dict[Place, str]]:
    """A copy with all new layers that it takes, and why it refused the others."""
    new = {place.layer: layer for place, layer in new_layers.items()}
    try:
        return surgery.replace_layers(model, new), {}
    except LayersRefused as error:
        refused = {
            place: error.reasons[place.layer]
            for place in new_layers
            if place.layer in error.reasons
        }
    for place in refused:
        del new[place.layer]
    return surgery.replace_layers(model, new), refused


def _share(
    places: list[Place], config: Config, known: dict[str, Calibration]
) -> dict[str, int]:
    """Numbers to keep in each place, where all of them share one budget."""
    if not isinstance(config, MessiConfig) or config.scope == "layer":
        return {}
    offers, size = {}, 0
    for path, layer, _ in places:
        matrix, own = read_matrix(layer), known.get(path)
        weights = None if own is None else weights_of_rows(own)
        offers[path] = make_offer(matrix, config, weights)
        size += matrix.size
    return share_numbers(offers, config.numbers_for(size))


def _without_whole(
    places: list[Place], numbers: dict[str, int]
) -> tuple[list[Place], list[SkippedLayer]]:
    """The places left to compress, and those worth all their numbers."""
    whole = [
        place
        for place in places
        if numbers.get(place.path) == math.prod(matrix_shape(place.layer))
    ]
    left = [place for place in places if place not in whole]
    return left, [skip(place, SkipReason.WHOLE, "") for place in whole]


def _sizes(surgery: Surgery, model: Any, small: Any) -> dict[str, int]:
    """The sizes of both models, as the report names them."""
    measures = {
        "parameters": surgery.count_parameters,
        "bytes": surgery.stored_bytes,
        "file_bytes": surgery.saved_size,
    }
    return {
        f"{name}_{when}": measure(one)
        for name, measure in measures.items()
        for when, one in (("before", model), ("after", small))
    }


def _describe(place: Place, new: keras.Layer, found: Compressed) -> ReplacedLayer:
    return ReplacedLayer(
        path=place.path,
        layer_type=type(place.layer).__name__,
        shape=matrix_shape(place.layer),
        num_clusters=getattr(new, "num_clusters", 0),
        ranks=getattr(new, "ranks", []),
        quantization=new.quantization_mode,
        parameters_before=count_parameters(place.layer),
        parameters_after=count_parameters(new),
        bytes_before=stored_bytes([place.layer]),
        bytes_after=stored_bytes([new]),
        relative_error=found.relative_error,
        output_error=found.output_error,
        plain_output_error=found.plain_output_error,
        adopted=list(found.adopted),
        dropped=list(found.dropped),
        num_codewords=getattr(new, "num_codewords", 0),
        num_codebooks=getattr(new, "num_codebooks", 0),
        block_size=getattr(new, "block_size", 0),
    )
