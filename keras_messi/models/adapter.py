"""The families of models: how each is opened, changed, and kept on disk."""

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_messi.calibration.batches import padding_mask
from keras_messi.calibration.observing import Observer, Run
from keras_messi.calibration.outputs import float_outputs, output_change
from keras_messi.calibration.statistics import CalibrationStatistics
from keras_messi.files import check_target
from keras_messi.models import huggingface
from keras_messi.models.huggingface import models as transformers
from keras_messi.models.keras.folding import fold_permutations
from keras_messi.models.keras.inputs import random_inputs
from keras_messi.models.keras.observing import observe_layers, substitute_layers
from keras_messi.models.keras.saving import load_model, save_model, saved_size
from keras_messi.models.keras.sizes import count_parameters, stored_bytes
from keras_messi.models.keras.surgery import (
    Filters,
    LayersRefused,
    NamedLayer,
    find_layers,
    matches,
    replace_layers,
)
from keras_messi.report import FoldedLayer

# Inputs to compare models on without calibration data.
NUM_RANDOM_INPUTS = 32


class Family(NamedTuple):
    """What is done with the models of one kind.

    Attributes:
        find_layers: All layers of a model with their paths, each layer once.
        replace_layers: A copy of a model with a new layer for each of some layers
            found; the model is left as it is. Raises `LayersRefused` if some of them
            can't be replaced.
        count_parameters: Numbers in the weights of a model, integers aside.
        stored_bytes: Bytes of all weights of a model as stored on disk.
        saved_size: Bytes of the file or files that a model is saved in.
        observe: A context in which observers of some layers found are given what these
            receive, and a function that runs a model on a batch of inputs; the model
            is left as it is. See `keras_messi.models.keras.observing.observe_layers`.
        substitute: A context in which built layers answer for some layers found; the
            model is left as it is.
        random_inputs: So many inputs that the model can be run on; None if none are
            known.
        fold: Spares new layers their cluster ids where the layer before can.
        load: Gives the model at a path.
        check_target: Raises an error unless a model can be written to a path.
        save: Writes a model to a path; what the path of the original, if there is
            one, holds besides weights, such as a tokenizer, comes along.
        suffix: What the path of a model ends in.
    """

    find_layers: Callable[[Any], list[NamedLayer]]
    replace_layers: Callable[[Any, Mapping[keras.Layer, keras.Layer]], Any]
    count_parameters: Callable[[Any], int]
    stored_bytes: Callable[[Any], int]
    saved_size: Callable[[Any], int]
    observe: Callable[
        [Any, Mapping[keras.Layer, Observer]], AbstractContextManager[Run]
    ]
    substitute: Callable[
        [Any, Mapping[keras.Layer, keras.Layer]], AbstractContextManager[None]
    ]
    random_inputs: Callable[[Any, int], Any]
    fold: Callable[[Any], tuple[Any, list[FoldedLayer]]]
    load: Callable[[Path], Any]
    check_target: Callable[[Path, bool], Any]
    save: Callable[[Any, Path, Path | None, bool], None]
    suffix: str


def family_of(model: Any) -> Family:
    """The family of a model."""
    # Keras's refuses what is no model at all.
    return _TRANSFORMERS if huggingface.framework_of(model) else _KERAS


def open_model(model: Any) -> tuple[Family, list[NamedLayer]]:
    """The family of a model and its layers, once it is clear that it can be copied.

    Raises:
        ValueError: The model is not built, or can't be copied.
    """
    family = family_of(model)
    named_layers = family.find_layers(model)
    family.replace_layers(model, {})
    return family, named_layers


def family_at(path: str | os.PathLike[str]) -> Family:
    """The family of the model in a file or folder."""
    return _TRANSFORMERS if Path(path).is_dir() else _KERAS


def change_layers(
    model: Any,
    filters: Filters,
    can_be: Callable[[Any], bool],
    changed: Callable[[Any], keras.Layer],
) -> Any:
    """A copy of a model with others for the layers selected that can be changed.

    Args:
        model: A model of any family. It is left as it is.
        filters: Which layers, as for `keras_messi.compress`; None means all that can
            be changed.
        can_be: Whether a layer can be changed.
        changed: The new layer for one that is to be changed.

    Raises:
        ValueError: The filters match no such layer, or one that can't be exchanged.
    """
    family = family_of(model)
    candidates = [x for x in family.find_layers(model) if can_be(x.layer)]
    chosen = [named for named in candidates if matches(named, filters)]
    if not chosen:
        raise ValueError(
            f"`filters` must match a layer that can be changed. Received: "
            f"filters={filters!r}, and these layers are "
            f"{[named.path for named in candidates]}"
        )
    for named in chosen:
        if named.obstacle:
            raise ValueError(f"Layer {named.path} can't be changed: {named.obstacle}.")
    new_layers = {named.layer: changed(named.layer) for named in chosen}
    return family.replace_layers(model, new_layers)


def outputs_of(family: Family, model: Any, inputs: Any) -> list[np.ndarray]:
    """All floats that a model returns for a batch of inputs, without padding."""
    with family.observe(model, {}) as run:
        return float_outputs(run(inputs), padding_mask(inputs))


def _output_change(
    family: Family, model: Any, small: Any, statistics: CalibrationStatistics | None
) -> float | None:
    """Change of the outputs on calibration data, or on random inputs if they fit."""
    if statistics is not None and statistics.outputs is not None:
        inputs, before = statistics.inputs, statistics.outputs
        return output_change(before, outputs_of(family, small, inputs))
    try:
        inputs = family.random_inputs(model, NUM_RANDOM_INPUTS)
        before, after = (outputs_of(family, x, inputs) for x in (model, small))
    except Exception:  # the code of any model may refuse what is random
        return None
    return output_change(before, after)


class Swapped(NamedTuple):
    """A model with some layers swapped for smaller ones.

    Attributes:
        model: The new model.
        refused: Why layers were not swapped, by path.
        folded: What layers before the new ones took over from them.
        layers: All layers of the new model, by their paths in the old one.
        sizes: Parameters and bytes of both models, named as in the report.
        output_change: Squared change of the outputs over their spread, if it is known.
    """

    model: Any
    refused: dict[str, str]
    folded: list[FoldedLayer]
    layers: dict[str, keras.Layer]
    sizes: dict[str, int]
    output_change: float | None


def replace_accepted(
    family: Family, model: Any, new_layers: Mapping[NamedLayer, keras.Layer]
) -> tuple[Any, dict[str, str]]:
    """A copy of a model with all new layers that it takes, and why not the others."""
    new = {named.layer: layer for named, layer in new_layers.items()}
    refused: dict[str, str] = {}
    try:
        small = family.replace_layers(model, new)
    except LayersRefused as error:
        paths = {named.layer: named.path for named in new_layers}
        refused = {paths[layer]: why for layer, why in error.reasons.items()}
        taken = {old: layer for old, layer in new.items() if paths[old] not in refused}
        small = family.replace_layers(model, taken)
    return small, refused


def swap_layers(
    family: Family,
    model: Any,
    new_layers: Mapping[NamedLayer, keras.Layer],
    statistics: CalibrationStatistics | None = None,
) -> Swapped:
    """A copy of a model with all new layers that it takes.

    Args:
        family: The family of the model.
        model: A model of any family. It is left as it is.
        new_layers: The new layer for each layer to be swapped.
        statistics: Calibration statistics, with inputs to compare the outputs on. By
            default these are random, if that can be.

    Raises:
        ValueError: The model takes none of the new layers.
    """
    small, refused = replace_accepted(family, model, new_layers)
    small, folded = family.fold(small)
    _warn_if_not_compiled(model, small)
    layers = _layers_by_path(family, model, small)
    change = _output_change(family, model, small, statistics)
    return Swapped(small, refused, folded, layers, _sizes(family, model, small), change)


def _layers_by_path(family: Family, model: Any, small: Any) -> dict[str, keras.Layer]:
    before = [named.path for named in family.find_layers(model)]
    after = {named.path: named.layer for named in family.find_layers(small)}
    if set(before) == set(after):
        return after
    # Some models give their layers other names when they are made from a config.
    return dict(zip(before, after.values(), strict=True))


def _warn_if_not_compiled(model: Any, small: Any) -> None:
    if getattr(model, "compiled", False) and not small.compiled:
        warnings.warn(
            f"The new model '{small.name}' must be compiled again: its class "
            f"{type(model).__name__} has a compile() of its own.",
            stacklevel=4,
        )


def _sizes(family: Family, model: Any, small: Any) -> dict[str, int]:
    measures = {
        "parameters": family.count_parameters,
        "bytes": family.stored_bytes,
        "file_bytes": family.saved_size,
    }
    return {
        f"{name}_{when}": measure(one)
        for name, measure in measures.items()
        for when, one in (("before", model), ("after", small))
    }


def _fold_nothing(model: Any) -> tuple[Any, list[FoldedLayer]]:
    # The code of a model of transformers does not tell what follows what.
    return model, []


def _check_file(path: Path, overwrite: bool) -> None:
    check_target(path, ".keras", overwrite=overwrite)


def _save_file(model: Any, path: Path, original: Path | None, overwrite: bool) -> None:
    save_model(model, path, overwrite=overwrite)


_KERAS = Family(
    find_layers,
    replace_layers,
    count_parameters,
    stored_bytes,
    saved_size,
    observe_layers,
    substitute_layers,
    random_inputs,
    fold_permutations,
    load_model,
    _check_file,
    _save_file,
    ".keras",
)
_TRANSFORMERS = Family(
    transformers.find_layers,
    transformers.replace_layers,
    transformers.count_parameters,
    transformers.stored_bytes,
    transformers.saved_size,
    transformers.observe,
    transformers.substitute,
    transformers.random_inputs,
    _fold_nothing,
    huggingface.from_pretrained,
    huggingface.check_target,
    huggingface.save,
    "",
)
