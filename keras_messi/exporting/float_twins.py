"""A model with plain layers for its compressed ones, and what their matrices are of.

So a converter meets layers that it knows, and nothing but floats; what these are made
of can be put into the finished file.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeGuard

import keras
import numpy as np

from keras_messi.exporting.forms import Factors, Floats, Form
from keras_messi.exporting.forms_of_layers import form_of_layer
from keras_messi.layers.dense import MessiDense
from keras_messi.layers.unfolded.base import stands_for
from keras_messi.layers.unfolded.convolutions.convolution import CompressedConv
from keras_messi.layers.unfolded.convolutions.grouped_convolution import (
    CompressedGroupedConv,
)
from keras_messi.layers.unfolded.convolutions.windows import Fold
from keras_messi.models.adapter import family_of, replace_accepted
from keras_messi.models.keras.surgery import NamedLayer


class SmallMatrix(NamedTuple):
    """A matrix of a model in floats, and the form that is smaller.

    Attributes:
        path: Path of the layer.
        numbers: The matrix, float32 of shape `(n, d)`, as the float twin holds it.
        form: What it is made of.
        fold: How it is a kernel, if it is that of a convolution.
    """

    path: str
    numbers: np.ndarray
    form: Form
    fold: Fold | None = None


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
    matrices: dict[str, Sequence[SmallMatrix]] = {}
    for named, form in forms.items():
        if named.path in left:
            continue
        new[named], matrices[named.path] = _twin_of(named, form)
    twin, refused = replace_accepted(family, model, new)
    taken = [x for path, own in matrices.items() if path not in refused for x in own]
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


def _twin_of(
    named: NamedLayer, form: Form
) -> tuple[keras.Layer, Sequence[SmallMatrix]]:
    """The plain layer for another one, and its matrices."""
    conv = _convolution(named.layer)
    if conv is not None and conv.has_two_kernels and _has_one_cluster(form):
        return _of_factors(named, form, conv)
    fold = None if conv is None or conv.is_product else conv.folds()[0]
    matrix = SmallMatrix(named.path, form.matrix(), form, fold)
    return _plain_layer(named.layer, matrix.numbers), [matrix]


def _convolution(layer: keras.Layer) -> CompressedConv | None:
    """The convolution that a layer is inside of, if it is one."""
    link = stands_for(layer)
    unfolded = None if link is None else link.unfolded
    if link and isinstance(unfolded, CompressedGroupedConv):
        unfolded = unfolded.convolution(link.name)
    return unfolded if isinstance(unfolded, CompressedConv) else None


def _has_one_cluster(form: Form) -> TypeGuard[Factors]:
    return isinstance(form, Factors) and len(form.coordinates) == 1


def _of_factors(
    named: NamedLayer, form: Factors, conv: CompressedConv
) -> tuple[keras.Layer, Sequence[SmallMatrix]]:
    """A layer with two factors, with which a convolution computes, and these."""
    layer: Any = named.layer
    left, right = form.coordinates[0], form.bases
    before, after = conv.folds(right.shape[0])
    matrices = [
        SmallMatrix(f"{named.path}/coordinates", left.matrix(), left, before),
        SmallMatrix(f"{named.path}/bases", right.matrix(), right, after),
    ]
    new = MessiDense(
        layer.units,
        num_clusters=1,
        rank=right.shape[0],
        use_bias=layer.use_bias,
        **_as(layer),
    )
    new.build((None, left.shape[0]))
    stored = {"coordinates_0": matrices[0].numbers, "bases": matrices[1].numbers}
    bias = (
        {} if layer.bias is None else {"bias": keras.ops.convert_to_numpy(layer.bias)}
    )
    new.load_own_variables({**stored, **bias})
    return new, [x for x in matrices if not isinstance(x.form, Floats)]


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
