"""Embeddings with a projection back to the vocabulary that is not tied to the table."""

from typing import Any, ClassVar, Self

import keras
from keras import ops

from keras_messi.layers.unfolded.base import UnfoldedLayer


@keras.saving.register_keras_serializable(package="keras_messi")
class UntiedEmbedding(UnfoldedLayer):
    """A table of an Embedding layer and, called with `reverse=True`, a Dense layer.

    It computes what `keras.layers.ReversibleEmbedding` does with `tie_weights=False`.

    Args:
        embeddings: The Embedding layer, such as a `MessiEmbedding`.
        reverse_embeddings: The Dense layer from vectors to logits, without bias.
        logit_soft_cap: If given, logits x become `logit_soft_cap * tanh(x /
            logit_soft_cap)`.
        **kwargs: What `keras.Layer` takes.

    Example:

    >>> import keras
    >>> from keras_messi.layers import MessiDense, MessiEmbedding, UntiedEmbedding
    >>> layer = UntiedEmbedding(
    ...     MessiEmbedding(100, 8, num_clusters=2, rank=3),
    ...     MessiDense(100, num_clusters=2, rank=3, use_bias=False),
    ... )
    >>> vectors = layer(keras.ops.zeros((2, 5), "int32"))
    >>> layer(vectors, reverse=True).shape
    TensorShape([2, 5, 100])
    """

    dense_names: ClassVar[tuple[str, ...]] = ("embeddings", "reverse_embeddings")

    def __init__(
        self,
        embeddings: keras.Layer,
        reverse_embeddings: keras.Layer,
        logit_soft_cap: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embeddings, self.reverse_embeddings = embeddings, reverse_embeddings
        self.logit_soft_cap = logit_soft_cap
        self.tie_weights = False

    @classmethod
    def obstacle(cls, layer: Any) -> str | None:
        return "its projection is the table itself" if layer.tie_weights else None

    @classmethod
    def unfold(cls, layer: Any) -> Self:
        table = keras.layers.Embedding(
            layer.input_dim,
            layer.output_dim,
            embeddings_regularizer=layer.embeddings_regularizer,
            embeddings_constraint=layer.embeddings_constraint,
            mask_zero=layer.mask_zero,
            name=f"{layer.name}_embeddings",
            dtype=layer.dtype_policy,
        )
        table.build()
        table.embeddings.assign(layer.embeddings)
        projection = keras.layers.Dense(
            layer.input_dim,
            use_bias=False,
            name=f"{layer.name}_reverse_embeddings",
            dtype=layer.reverse_dtype or layer.dtype_policy,
        )
        projection.build((None, layer.output_dim))
        projection.kernel.assign(layer.reverse_embeddings)
        unfolded = cls(
            table,
            projection,
            layer.logit_soft_cap,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
        unfolded.build()
        return unfolded

    def build(self, input_shape: Any = None) -> None:
        if not self.embeddings.built:
            self.embeddings.build()
        if not self.reverse_embeddings.built:
            self.reverse_embeddings.build((None, self.output_dim))
        self.built = True

    input_dim = property(lambda self: self.embeddings.input_dim, doc="Rows.")
    output_dim = property(lambda self: self.embeddings.output_dim, doc="Columns.")

    def call(self, inputs: Any, reverse: bool = False) -> Any:
        if not reverse:
            return self.embeddings(inputs)
        logits = self.reverse_embeddings(inputs)
        if self.logit_soft_cap is None:
            return logits
        return ops.tanh(logits / self.logit_soft_cap) * self.logit_soft_cap

    def rows(self, name: str, inputs: Any, reverse: bool = False) -> Any:
        return inputs if reverse == (name == "reverse_embeddings") else None

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """None: look-ups mark their outputs themselves, as in Keras."""

    def compute_output_shape(self, input_shape: Any, reverse: bool = False) -> Any:
        if reverse:
            return (*input_shape[:-1], self.input_dim)
        return (*input_shape, self.output_dim)

    def compute_output_spec(self, inputs: Any, reverse: bool = False) -> Any:
        """Shape and dtype of what a call returns."""
        shape = self.compute_output_shape(inputs.shape, reverse)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "logit_soft_cap": self.logit_soft_cap}
