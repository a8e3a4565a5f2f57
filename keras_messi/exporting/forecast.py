"""How large exported files will be, known before they are written."""

import math
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import keras

from keras_messi.exporting.float_twins import forms_of_layers, is_looked_up
from keras_messi.exporting.forms import Form
from keras_messi.exporting.worth import is_worth_telling, worth_storing
from keras_messi.layers.sizes import count_own_parameters, stored_bytes
from keras_messi.models import huggingface
from keras_messi.models.adapter import family_of
from keras_messi.models.keras.surgery import NamedLayer

# Names and shapes of a layer in a file, and the operations of an activation: bytes.
_AROUND_A_LAYER = 500

# A file may take so many times the bytes that a model is saved in without a warning,
# and so many more.
_MUCH = 1.5
_MANY = 2**16

_Sizes = Callable[[Iterable[tuple[Form, bool]]], int]


def forecast_sizes(model: Any) -> dict[str, int]:
    """Bytes that `export` would write for a model, within a few percent.

    What the forms of its layers take is counted as it would be written. All else is in
    float32, with some bytes for each layer.

    Args:
        model: A model of any family, compressed or not.

    Returns:
        The bytes by format, `"onnx"` and `"litert"`; without those that this backend
        does not write, or whose package is not installed.
    """
    formats = _formats_for(model)
    if not formats:
        return {}
    layers = family_of(model).find_layers(model)
    forms, stored = _forms_of(layers)
    size = 4 * _floats(model, forms, stored) + _AROUND_A_LAYER * len(layers)
    return {name: size + bytes_of(_uses(stored)) for name, bytes_of in formats.items()}


def _forms_of(
    layers: Iterable[NamedLayer],
) -> tuple[dict[NamedLayer, Form], dict[NamedLayer, Form]]:
    """The forms of all layers that have one, and those that a file stores."""
    forms, left = forms_of_layers(layers)
    can_be = {named.path: x for named, x in forms.items() if named.path not in left}
    worth, _ = worth_storing(can_be)
    return forms, {named: x for named, x in forms.items() if named.path in worth}


def _formats_for(model: Any) -> dict[str, _Sizes]:
    """What counts the bytes of forms, for each format that a model is written in."""
    backend, names = keras.backend.backend(), []
    if find_spec("onnx") and backend in ("tensorflow", "torch"):
        names.append("onnx")
    if backend == "tensorflow" and huggingface.framework_of(model) != "torch":
        names.append("litert")
    return {name: _sizes_in(name) for name in names}


def _sizes_in(format: str) -> _Sizes:
    return import_module(f"keras_messi.exporting.{format}.sizes").bytes_of


def _uses(forms: dict[NamedLayer, Form]) -> list[tuple[Form, bool]]:
    return [(form, is_looked_up(named.layer)) for named, form in forms.items()]


def _floats(
    model: Any, forms: dict[NamedLayer, Form], stored: dict[NamedLayer, Form]
) -> int:
    """Numbers of a model that are floats in a file, all but those of stored forms."""
    count = family_of(model).count_parameters(model)
    for named, form in forms.items():
        bias = getattr(named.layer, "bias", None)
        count -= count_own_parameters(named.layer)
        count += 0 if bias is None else math.prod(bias.shape)
        count += 0 if named in stored else math.prod(form.shape)
    return count


def warn_if_grown(size: int, model: Any, format: str) -> None:
    """Say which layers make a file much larger than the model as it is saved.

    Args:
        size: Bytes of the file.
        model: The model.
        format: The format of the file, `"onnx"` or `"litert"`.
    """
    family = family_of(model)
    saved = family.stored_bytes(model)
    if size <= max(_MUCH * saved, saved + _MANY):
        return
    _, stored = _forms_of(family.find_layers(model))
    bytes_of = _sizes_in(format)
    grown = [
        named.path
        for named, form in stored.items()
        if is_worth_telling(form)
        and bytes_of(_uses({named: form})) > _MUCH * stored_bytes([named.layer])
    ]
    if grown:
        warnings.warn(
            f"The file takes {size:,} bytes, {size / saved:.1f} times those of the "
            f"weights of the saved model: the format has no form as small for "
            f'{", ".join(grown)}. `BudgetConfig(..., target="{format}")` chooses among '
            "those that it has.",
            stacklevel=3,
        )
