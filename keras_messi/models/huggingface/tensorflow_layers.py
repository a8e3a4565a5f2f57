"""Layers of tf_keras that compute with a compressed layer in the place of a weight."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from keras_messi.calibration.observing import Observer, attribute_set
from keras_messi.layers.whole_matrix import multiplied_out


class FactoredLayer(tf_keras.layers.Layer):
    """A compressed Keras 3 layer in a tf_keras model.

    tf_keras sees no weights in a Keras 3 layer, neither to train nor to save them. Here
    they are entered into its lists.

    Args:
        factored: The layer, built.
        path: Its path in the model.
        scope: The scope of names that it was built in.
        activation: What to apply to its outputs.
    """

    def __init__(
        self,
        factored: keras.Layer,
        path: str,
        scope: str,
        activation: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.factored = factored
        self.path = path
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

    @property
    def kernel(self) -> tf.Tensor:
        """The matrix, multiplied out, for code that reads it."""
        return multiplied_out(self.factored)

    @property
    def bias(self) -> tf.Variable | None:
        """The bias of the layer."""
        return None if self.factored.bias is None else self.factored.bias.value

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
    """A factored Keras 3 layer for an Embedding, or a variable that is a table."""

    def sparse_read(self, indices: Any, name: str | None = None) -> Any:
        """Rows of the table: what `tf.gather` asks of a variable."""
        return self(indices)

    @property
    def embeddings(self) -> tf.Tensor:
        """The table, multiplied out, for code that reads it."""
        return multiplied_out(self.factored)

    @property
    def input_dim(self) -> int:
        """Number of rows."""
        return self.factored.input_dim

    @property
    def weights(self) -> list[tf.Variable]:
        """All weights, and what `tf.matmul` of a tied head can multiply by."""
        return _WeightsOfTable(super().weights, self)


class _WeightsOfTable(list):
    """The weights of a table: heads take the list itself for the table."""

    def __init__(self, weights: list[tf.Variable], table: FactoredTable) -> None:
        super().__init__(weights)
        self.table = table

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        raise TypeError("The weights of a factored table are no tensor.")


class _TiedLogits(tf.__internal__.dispatch.OpDispatcher):
    """What `tf.matmul` does with a FactoredTable, which is no tensor."""

    def handle(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        operands = dict(zip("ab", args, strict=False)) | kwargs
        table = operands["b"]
        if isinstance(table, _WeightsOfTable):
            table = table.table
        if isinstance(table, FactoredTable) and operands.get("transpose_b"):
            return table.factored(operands["a"], reverse=True)
        return self.NOT_SUPPORTED


_TiedLogits().register(tf.linalg.matmul)


class ObservedTable:
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


def _reading(cls: type, name: str, shape: tuple[int, ...]) -> type:
    """A subclass in which an attribute is a matrix, multiplied out, of a shape."""

    def read(self: Any) -> Any:
        matrix = multiplied_out(getattr(self, f"factored_{name}").factored)
        return tf.reshape(matrix, shape)

    members = {"__module__": cls.__module__, name: property(read)}
    return type(cls.__name__, (cls,), members)


def replace_variable(owner: Any, name: str, layer: FactoredLayer) -> None:
    """Let an attribute of a layer be the matrix of another, multiplied out when read.

    The class of the owner becomes a subclass of itself.
    """
    shape = tuple(getattr(owner, name).shape)
    delattr(owner, name)
    owner.__class__ = _reading(type(owner), name, shape)
    setattr(owner, f"factored_{name}", layer)


@contextmanager
def variable_replaced(owner: Any, name: str, layer: FactoredLayer) -> Iterator[None]:
    """The same for a time, past the books that are kept on attributes."""
    cls, shape = type(owner), tuple(getattr(owner, name).shape)
    with ExitStack() as stack:
        stack.enter_context(attribute_set(owner, f"factored_{name}", layer))
        stack.callback(object.__setattr__, owner, "__class__", cls)
        object.__setattr__(owner, "__class__", _reading(cls, name, shape))
        yield
