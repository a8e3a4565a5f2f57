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

from keras_messi._keras_internals import attribute_set
from keras_messi.calibration.observing import (
    Observer,
    Run,
    calls_wrapped,
    eagerly,
)
from keras_messi.models.huggingface.proxies import (
    dense_layer,
    embedding_layer,
    factored_layer,
    other_layer,
)
from keras_messi.models.keras.surgery import NamedLayer

# What the names of classes begin with.
PREFIX = "TF"
# Between the parts of the name of a weight.
SEPARATOR = "/"

# The attributes in which the embeddings of transformers hold their tables: variables,
# looked up by tf.gather and, in tied heads, multiplied by tf.matmul.
_TABLES = ("weight", "position_embeddings", "token_type_embeddings")


class FactoredLayer(tf_keras.layers.Layer):
    """A compressed Keras 3 layer for a Dense layer of a tf_keras model.

    tf_keras sees no weights in a Keras 3 layer, neither to train nor to save them. Here
    they are entered into its lists.

    Args:
        factored: The layer, built.
        scope: The scope of names that it was built in.
        activation: What to apply to its outputs.
    """

    def __init__(
        self,
        factored: keras.Layer,
        scope: str,
        activation: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.factored = factored
        self.scope = scope
        self.activation = activation
        self._list_weights()
        self.built = True

    def _list_weights(self) -> None:
        layer = self.factored
        self._trainable_weights[:] = [v.value for v in layer.trainable_variables]
        self._non_trainable_weights[:] = [
            v.value for v in layer.non_trainable_variables
        ]

    def enable_lora(self, rank: int, **options: Any) -> None:
        """What `enable_lora` of the compressed layer does, which see."""
        with tf.name_scope(self.scope):
            self.factored.enable_lora(rank, **options)
        self._list_weights()

    def call(self, inputs: Any) -> Any:
        """Apply the factored layer, then the activation of the layer replaced."""
        outputs = self.factored(inputs)
        return outputs if self.activation is None else self.activation(outputs)


class FactoredTable(FactoredLayer):
    """A factored Keras 3 layer for a variable that is a table of rows."""

    def sparse_read(self, indices: Any, name: str | None = None) -> Any:
        """Rows of the table: what `tf.gather` asks of a variable."""
        return self(indices)


class _ObservedTable:
    """Replaces a variable that is a table, whose rows it reads."""

    def __init__(self, table: tf.Variable, observer: Observer) -> None:
        self.table = table
        self.observer = observer

    def sparse_read(self, indices: Any, name: str | None = None) -> Any:
        """Rows of the table: what `tf.gather` asks of a variable."""
        self.observer(indices)
        return self.table.sparse_read(indices, name)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        """The table: what `tf.matmul` asks of a tied head."""
        return tf.convert_to_tensor(self.table, dtype, name=name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.table, name)


class _TiedLogits(tf.__internal__.dispatch.OpDispatcher):
    """What `tf.matmul` does with a FactoredTable, which is no tensor."""

    def handle(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operands = dict(zip("ab", args, strict=False)) | kwargs
        table = operands["b"]
        if isinstance(table, FactoredTable) and operands.get("transpose_b"):
            return table.factored(operands["a"], reverse=True)
        return self.NOT_SUPPORTED


_TiedLogits().register(tf.linalg.matmul)


class _Holder(NamedTuple):
    """An attribute that holds a Dense layer or a table."""

    owner: tf_keras.layers.Layer
    attribute: str
    value: Any

    @property
    def is_dense(self) -> bool:
        return isinstance(self.value, tf_keras.layers.Layer)

    @property
    def matrix(self) -> tf.Variable:
        return self.value.kernel if self.is_dense else self.value

    @property
    def dtype(self) -> str:
        return (self.value if self.is_dense else self.owner).dtype_policy.name


def build(model_class: type, config: Any) -> tf_keras.Model:
    """A new model with random weights."""
    model = model_class(config)
    model.build_in_name_scope()
    return model


def find_layers(model: tf_keras.Model) -> list[NamedLayer]:
    """Proxies of all layers with weights."""
    weights = defaultdict(list)
    for variable in model.weights:
        weights[_path(variable)].append(variable)
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
    # Outer layers come first, so that a path ends up with its innermost layer.
    return {_path(v): type(layer) for layer in layers_of(model) for v in layer.weights}


def _proxy(path: str, holder: _Holder) -> NamedLayer:
    if not holder.is_dense:
        return embedding_layer(path, holder.matrix, holder.dtype)
    return dense_layer(path, holder.matrix, holder.value.bias, holder.dtype)


def put(model: tf_keras.Model, layers: Mapping[str, keras.Layer]) -> None:
    """Replace stock layers by compressed ones that are not built yet."""
    matrices = _matrices(model)
    for path, layer in layers.items():
        holder = matrices[path][0]
        # The policy of the model around it, which is not saved with a model.
        layer.dtype_policy = _with_source(layer.dtype_policy.name, holder.dtype)
        scope = f"{model.name}/{path.rpartition('/')[0]}"
        with tf.name_scope(scope):
            layer.build((None, holder.matrix.shape[0]))
        new = _wrapped(layer, scope, holder)
        for owner, attribute, _ in matrices[path]:
            setattr(owner, attribute, new)


def _wrapped(layer: keras.Layer, scope: str, holder: _Holder) -> FactoredLayer:
    """A layer, built, as it stands in the place of another."""
    kwargs = {"name": layer.name, "dtype": holder.owner.dtype_policy}
    if holder.is_dense:
        return FactoredLayer(layer, scope, holder.value.activation, **kwargs)
    return FactoredTable(layer, scope, **kwargs)


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
            layers = {id(x.value): x.value for x in matrices[path] if x.is_dense}
            for layer in layers.values():
                stack.enter_context(calls_wrapped(layer, observer))
            for holder in matrices[path]:
                if not holder.is_dense:
                    table = _ObservedTable(holder.value, observer)
                    stack.enter_context(
                        attribute_set(holder.owner, holder.attribute, table)
                    )
        yield run


@contextmanager
def substitute(
    model: tf_keras.Model, layers: Mapping[str, keras.Layer]
) -> Iterator[None]:
    """Let built layers answer for those of a model whenever it is run inside."""
    matrices = _matrices(model)
    with ExitStack() as stack:
        for path, layer in layers.items():
            new = _wrapped(layer, "", matrices[path][0])
            for owner, attribute, _ in matrices[path]:
                stack.enter_context(attribute_set(owner, attribute, new))
        yield


def read(weight: Any) -> np.ndarray:
    """The value of a weight, as it is saved."""
    return keras.ops.convert_to_numpy(weight)


def write(weight: tf.Variable, value: np.ndarray) -> None:
    """Assign a weight."""
    weight.assign(value)


def stock_weights(model: tf_keras.Model) -> dict[str, tf.Variable]:
    """All weights outside of factored layers by name."""
    factored = factored_layers(model)
    return {_name(v): v for v in model.weights if _path(v) not in factored}


def factored_layers(model: tf_keras.Model) -> dict[str, keras.Layer]:
    """The factored layers of a model by path."""
    return {
        _path(layer.weights[0]): layer.factored
        for layer in layers_of(model)
        if isinstance(layer, FactoredLayer)
    }


def copy_training_state(model: tf_keras.Model, small: tf_keras.Model) -> None:
    """Freeze the layers that have no weight that is trained in the other model."""
    trained = {_path(variable) for variable in model.trainable_weights}
    # Quantized factors are never trained, frozen or not.
    trained |= {
        _path(layer.weights[0])
        for layer in layers_of(model)
        if isinstance(layer, FactoredLayer) and layer.trainable
    }
    for layer in layers_of(small):
        if layer.weights and trained.isdisjoint(map(_path, layer.weights)):
            layer.trainable = False


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
    """All attributes that hold a Dense layer or a table, by path."""
    holders = defaultdict(list)
    for owner in layers_of(model):
        for attribute, value in vars(owner).items():
            holder = _Holder(owner, attribute, value)
            # Exact types: a subclass may compute something else.
            if (type(value) is tf_keras.layers.Dense and value.built) or (
                attribute in _TABLES
                and isinstance(value, tf.Variable)
                and type(owner).__name__.endswith("Embeddings")
            ):
                holders[_path(holder.matrix)].append(holder)
    return holders


def _name(variable: tf.Variable) -> str:
    """Name of a variable without that of the model and the number of the output."""
    return variable.name.partition("/")[-1].removesuffix(":0")


def _path(variable: tf.Variable) -> str:
    """Name of the layer that a variable belongs to."""
    return _name(variable).rpartition("/")[0]
