"""What is special to the TensorFlow models of transformers: they are tf_keras models.

A layer is named as in a checkpoint, such as "bert/encoder/layer_._0/output/dense".
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from safetensors.numpy import load_file as load_file
from safetensors.numpy import save_file as save_file
from transformers.modeling_tf_utils import TFConv1D

from keras_messi._keras_internals import attribute_set
from keras_messi.calibration.observing import (
    Observer,
    Run,
    calls_wrapped,
    eagerly,
)
from keras_messi.models.huggingface.proxies import (
    as_matrix,
    dense_layer,
    embedding_layer,
    factored_layer,
    is_matrix,
    matrix_layer,
    other_layer,
)
from keras_messi.models.huggingface.tensorflow_layers import (
    FactoredLayer,
    FactoredTable,
    ObservedTable,
    replace_variable,
    variable_replaced,
)
from keras_messi.models.keras.surgery import NamedLayer

# What the names of classes begin with.
PREFIX = "TF"
# Between the parts of the name of a weight.
SEPARATOR = "/"

# The attributes in which the embeddings of transformers hold their tables: variables,
# looked up by tf.gather and, in tied heads, multiplied by tf.matmul.
_TABLES = ("weight", "position_embeddings", "token_type_embeddings")

# Layers and their matrices, by exact types: a subclass may compute something else.
_MATRICES = {
    tf_keras.layers.Dense: "kernel",
    TFConv1D: "weight",
    tf_keras.layers.Embedding: "embeddings",
}


def _is_layer(value: Any) -> bool:
    """Whether something is a layer as Keras 3 has it, and built."""
    masks = getattr(value, "mask_zero", False)
    return type(value) in _MATRICES and value.built and not masks


class _Holder(NamedTuple):
    """An attribute that holds a matrix, or a layer with one."""

    owner: tf_keras.layers.Layer
    attribute: str
    value: Any

    @property
    def is_layer(self) -> bool:
        return isinstance(self.value, tf_keras.layers.Layer)

    @property
    def is_table(self) -> bool:
        """Whether rows of the matrix are looked up."""
        if self.is_layer:
            return isinstance(self.value, tf_keras.layers.Embedding)
        kind = type(self.owner).__name__
        return self.attribute in _TABLES and kind.endswith("Embeddings")

    @property
    def is_read(self) -> bool:
        """Whether the matrix is read by code that is not known."""
        return not (self.is_layer or self.is_table)

    @property
    def matrix(self) -> tf.Variable:
        if self.is_layer:
            return getattr(self.value, _MATRICES[type(self.value)])
        return self.value

    @property
    def bias(self) -> Any:
        """The bias of a layer, that of TFConv1D without its axis of size one."""
        bias = getattr(self.value, "bias", None)
        return None if bias is None else tf.reshape(bias, [-1])

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix as its proxy shows it."""
        shape = tuple(self.matrix.shape)
        return as_matrix(shape) if self.is_read else shape

    @property
    def path(self) -> str:
        """Path of the layer that the matrix is shown as."""
        return (_name if self.is_read else _path)(self.matrix)

    @property
    def dtype(self) -> str:
        return (self.value if self.is_layer else self.owner).dtype_policy.name


def build(model_class: type, config: Any) -> tf_keras.Model:
    """A new model with random weights."""
    model = model_class(config)
    model.build_in_name_scope()
    return model


def find_layers(model: tf_keras.Model) -> list[NamedLayer]:
    """Proxies of all layers with weights."""
    paths, weights = _paths(model), defaultdict(list)
    for variable in model.weights:
        weights[paths[id(variable)]].append(variable)
    factored, matrices = factored_layers(model), _matrices(model)
    types = layer_types(model)
    places = []
    for path, variables in weights.items():
        if path in factored:
            places.append(factored_layer(path, factored[path]))
        elif path in matrices:
            places.append(_proxy(path, matrices[path][0]))
        else:
            places.append(other_layer(path, types[path].__name__, variables))
    return places


def layer_types(model: tf_keras.Model) -> dict[str, type]:
    """Class of each layer with weights."""
    factored = {id(v): x.path for x in _factored(model) for v in x.weights}
    # Outer layers come first, so that a path ends up with its innermost layer.
    return {
        factored.get(id(v)) or _path(v): type(layer)
        for layer in layers_of(model)
        for v in layer.weights
    }


def _proxy(path: str, holder: _Holder) -> NamedLayer:
    if holder.is_table:
        return embedding_layer(path, holder.matrix, holder.dtype)
    if holder.is_read:
        return matrix_layer(path, holder.matrix, holder.dtype)
    return dense_layer(path, holder.matrix, holder.bias, holder.dtype)


def put(model: tf_keras.Model, layers: Mapping[str, keras.Layer]) -> None:
    """Replace matrices by compressed layers that are not built yet.

    A variable that is replaced is filled with NaN, which shows in the outputs if code
    still holds it somewhere.
    """
    matrices = _matrices(model)
    for path, layer in layers.items():
        holder = matrices[path][0]
        # The policy of the model around it, which is not saved with a model.
        layer.dtype_policy = _with_source(layer.dtype_policy.name, holder.dtype)
        scope = f"{model.name}/{path.rpartition('/')[0]}"
        with tf.name_scope(scope):
            layer.build((None, holder.shape[0]))
        new = _wrapped(layer, scope, holder)
        holder.matrix.assign(tf.fill(holder.matrix.shape, np.nan))
        for owner, attribute, _ in matrices[path]:
            if holder.is_read:
                replace_variable(owner, attribute, new)
            else:
                setattr(owner, attribute, new)


def _wrapped(layer: keras.Layer, scope: str, holder: _Holder) -> FactoredLayer:
    """A layer, built, as it stands in the place of another."""
    kwargs = {"name": layer.name, "dtype": holder.owner.dtype_policy}
    if holder.is_table:
        return FactoredTable(layer, holder.path, scope, **kwargs)
    activation = getattr(holder.value, "activation", None)
    return FactoredLayer(layer, holder.path, scope, activation, **kwargs)


def _with_source(policy: str, dtype: str) -> str:
    """A policy for another dtype; only quantized layers of Keras say more than that."""
    mode, quantized, _ = policy.partition("_from_")
    return mode + quantized + dtype if quantized else dtype


@contextmanager
def observe(model: tf_keras.Model, observers: Mapping[str, Observer]) -> Iterator[Run]:
    """Call observers with the inputs of layers whenever the model is run inside."""
    matrices = _matrices(model)

    def run(batch: Any) -> Any:
        with eagerly():
            inputs = keras.tree.map_structure(tf.convert_to_tensor, batch)
            return model(inputs, training=False)

    with ExitStack() as stack:
        for path, observer in observers.items():
            layers = {id(x.value): x.value for x in matrices[path] if x.is_layer}
            for layer in layers.values():
                stack.enter_context(calls_wrapped(layer, observer))
            for owner, attribute, value in matrices[path]:
                if matrices[path][0].is_table and not layers:
                    table = ObservedTable(value, observer)
                    stack.enter_context(attribute_set(owner, attribute, table))
        yield run


@contextmanager
def substitute(
    model: tf_keras.Model, layers: Mapping[str, keras.Layer]
) -> Iterator[None]:
    """Let built layers answer for those of a model whenever it is run inside."""
    matrices = _matrices(model)
    with ExitStack() as stack:
        for path, layer in layers.items():
            first = matrices[path][0]
            new = _wrapped(layer, "", first)
            exchanged = variable_replaced if first.is_read else attribute_set
            for owner, attribute, _ in matrices[path]:
                stack.enter_context(exchanged(owner, attribute, new))
        yield


def read(weight: Any) -> np.ndarray:
    """The value of a weight, as it is saved."""
    return keras.ops.convert_to_numpy(weight)


def write(weight: tf.Variable, value: np.ndarray) -> None:
    """Assign a weight."""
    weight.assign(value)


def stock_weights(model: tf_keras.Model) -> dict[str, tf.Variable]:
    """All weights outside of factored layers by name."""
    factored = {id(v) for layer in _factored(model) for v in layer.weights}
    return {_name(v): v for v in model.weights if id(v) not in factored}


def matrix_names(model: tf_keras.Model) -> dict[str, str]:
    """Names of the stock weights that are matrices, by the paths of their layers."""
    return {path: _name(x[0].matrix) for path, x in _matrices(model).items()}


def factored_layers(model: tf_keras.Model) -> dict[str, keras.Layer]:
    """The factored layers of a model by path."""
    return {layer.path: layer.factored for layer in _factored(model)}


def _factored(model: tf_keras.Model) -> list[FactoredLayer]:
    return [x for x in layers_of(model) if isinstance(x, FactoredLayer)]


def copy_training_state(model: tf_keras.Model, small: tf_keras.Model) -> None:
    """Freeze the layers that have no weight that is trained in the other model."""
    before, after = _paths(model), _paths(small)
    trained = {before[id(variable)] for variable in model.trainable_weights}
    # Quantized factors are never trained, frozen or not.
    trained |= {layer.path for layer in _factored(model) if layer.trainable}
    for layer in layers_of(small):
        paths = {after[id(variable)] for variable in layer.weights}
        if paths and trained.isdisjoint(paths):
            layer.trainable = False


def _paths(model: tf_keras.Model) -> dict[int, str]:
    """Path of the layer that each weight is shown in, by the id of the weight."""
    paths = {id(v): _path(v) for layer in layers_of(model) for v in layer.weights}
    paths |= {id(x[0].matrix): path for path, x in _matrices(model).items()}
    return paths | {id(v): x.path for x in _factored(model) for v in x.weights}


def layers_of(model: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    """The model and all layers in it, outer ones first."""
    found: dict[int, tf_keras.layers.Layer] = {}
    _collect(model, found)
    return list(found.values())


def _collect(value: Any, found: dict[int, tf_keras.layers.Layer]) -> None:
    """Add the layers in a value by identity; `submodules` takes ten times as long."""
    if isinstance(value, tf_keras.layers.Layer) and id(value) not in found:
        found[id(value)] = value
        _collect(vars(value), found)
    elif isinstance(value, dict):
        _collect(list(value.values()), found)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, found)


def _matrices(model: tf_keras.Model) -> dict[str, list[_Holder]]:
    """All attributes that hold a matrix, or a layer with one, by path."""
    holders = defaultdict(list)
    for owner in layers_of(model):
        if isinstance(owner, FactoredLayer):
            continue
        for attribute, value in vars(owner).items():
            if _is_layer(value) or (_is_matrix(value) and not _is_layer(owner)):
                holder = _Holder(owner, attribute, value)
                holders[holder.path].append(holder)
    return holders


def _is_matrix(value: Any) -> bool:
    is_float = isinstance(value, tf.Variable) and value.dtype.is_floating
    return is_float and is_matrix(tuple(value.shape))


def _name(variable: tf.Variable) -> str:
    """Name of a variable without that of the model and the number of the output."""
    return variable.name.partition("/")[-1].removesuffix(":0")


def _path(variable: tf.Variable) -> str:
    """Name of the layer that a variable belongs to."""
    return _name(variable).rpartition("/")[0]
