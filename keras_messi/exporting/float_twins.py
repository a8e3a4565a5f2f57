"""A model with plain layers for its compressed ones, and what their matrices are of.

So a converter meets layers that it knows, and nothing but floats; what these are made
of can be put into the finished file.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_messi.exporting.forms import Form
from keras_messi.exporting.forms_of_layers import form_of_layer
from keras_messi.models.adapter import family_of, replace_accepted
from keras_messi.models.keras.surgery import NamedLayer


class SmallMatrix(NamedTuple):
    """A matrix of a model in floats, and the form that is smaller.

    Attributes:
        path: Path of the layer.
        numbers: The matrix, float32 of shape `(n, d)`, as the float twin holds it.
        form: What it is made of.
    """

    path: str
    numbers: np.ndarray
    form: Form


class FloatTwin(NamedTuple):
    """A model that computes in floats what another one does from smaller forms.

    Attributes:
        model: The model, the other one itself if it has no smaller forms.
        matrices: Its matrices that have one.
        left: Why compressed layers are still in it, by path.
    """

    model: Any
    matrices: list[SmallMatrix]
    left: dict[str, str]


def float_twin(model: Any) -> FloatTwin:
    """The twin of a model of any family, in which compressed layers are plain ones.

    Raises:
        ValueError: The model is not built, or has compressed layers and can't be
            copied.
    """
    family = family_of(model)
    forms, left = forms_of_layers(family.find_layers(model))
    if len(forms) == len(left):
        return FloatTwin(model, [], left)
    new: dict[NamedLayer, keras.Layer] = {}
    matrices = []
    for named, form in forms.items():
        if named.path in left:
            continue
        matrix = SmallMatrix(named.path, form.matrix(), form)
        matrices.append(matrix)
        new[named] = _plain_layer(named.layer, matrix.numbers)
    twin, refused = replace_accepted(family, model, new)
    taken = [matrix for matrix in matrices if matrix.path not in refused]
    return FloatTwin(twin, taken, {**left, **refused})


def forms_of_layers(
    layers: Iterable[NamedLayer],
) -> tuple[dict[NamedLayer, Form], dict[str, str]]:
    """The forms of those layers of a model that have one.

    Returns:
        The forms, and why some of them can't be exported, by the paths of the layers.
    """
    forms, left = {}, {}
    for named in layers:
        form = form_of_layer(named.layer)
        if form is None:
            continue
        obstacle = named.obstacle or _obstacle(named.layer)
        if obstacle:
            left[named.path] = obstacle
        forms[named] = form
    return forms, left


def is_looked_up(layer: keras.Layer) -> bool:
    """Whether rows of the matrix of a layer are looked up: it is no Dense layer."""
    return not hasattr(layer, "units")


def _obstacle(layer: keras.Layer) -> str | None:
    dtypes = {layer.compute_dtype, layer.variable_dtype}
    return None if dtypes == {"float32"} else f"it is in {' and '.join(sorted(dtypes))}"


def _plain_layer(layer: Any, matrix: np.ndarray) -> keras.Layer:
    """A layer of Keras with a matrix, and all else that another one has."""
    if not is_looked_up(layer):
        plain = keras.layers.Dense(
            layer.units, layer.activation, layer.use_bias, **_as(layer)
        )
        plain.build((None, len(matrix)))
        plain.kernel.assign(matrix)
        if layer.bias is not None:
            plain.bias.assign(layer.bias)
        return plain
    plain = keras.layers.ReversibleEmbedding(
        *matrix.shape,
        # Not `mask_zero`: a quantized ReversibleEmbedding of Keras masks nothing.
        mask_zero=layer.compute_mask(np.zeros(1, "int32")) is not None,
        reverse_dtype=getattr(layer, "reverse_dtype", None),
        logit_soft_cap=getattr(layer, "logit_soft_cap", None),
        **_as(layer),
    )
    plain.build()
    plain.embeddings.assign(matrix)
    return plain


def _as(layer: keras.Layer) -> dict[str, Any]:
    return {"name": layer.name, "dtype": "float32"}
