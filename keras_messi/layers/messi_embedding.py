"""An Embedding layer whose table is stored as k pairs of factors."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_messi.layers._backend import split, take_rows
from keras_messi.layers._embedding import EmbeddingOutputs
from keras_messi.layers._factored import FactoredMatrix
from keras_messi.layers._factors import times
from keras_messi.layers._lookup import (
    is_static,
    rows_by_cluster,
    rows_wide,
)


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiEmbedding(EmbeddingOutputs, FactoredMatrix):
    """Embedding layer whose rows lie on k subspaces.

    The vector of token t, in cluster c, is `U_c[position of t in c] @ V_c`, where
    `U_c`, of shape `(n_c, j_c)`, holds coordinates and `V_c`, of shape
    `(j_c, output_dim)`, is the basis of the subspace of cluster c. With one cluster it
    is the factorization by singular value decomposition.

    It stores `sum_c j_c (n_c + output_dim)` numbers and one cluster id per token. On
    TensorFlow and torch a look-up multiplies `j_c * output_dim` times for each
    distinct token of cluster c. On JAX, under XLA and in every export, shapes must not
    depend on the tokens, and it multiplies `output_dim * sum_c j_c` times per token.

    Called with `reverse=True` it turns hidden states into logits over the vocabulary,
    tied to the same factors, in fewer products than the full table takes.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster.
        cluster_sizes: List of k integers, number of tokens in each cluster. By default
            the tokens are dealt out evenly.
        mask_zero: Whether the input value 0 is padding that should be masked out.
        lookup: `"auto"`, or `"wide"` for shapes that don't depend on the tokens: XLA
            (`jit_compile=True`) on TensorFlow needs that. See also
            `keras_messi.layers.static_lookup`.
        reverse_dtype: Dtype of the logits, by default the compute dtype.
        logit_soft_cap: If given, logits are
            `tanh(logits / logit_soft_cap) * logit_soft_cap`.
        coordinates_initializer: Initializer for the coordinates `U_c`.
        bases_initializer: Initializer for the bases `V_c`.
        factors_regularizer: Regularizer applied to each `U_c` and to all `V_c`.
        quantization: None, `"int8"` or `"int4"`: whether the factors are codes of 8 or
            4 bits a number, with a scale for each row, and not trainable. See also
            `layer.quantize(mode)` and `layer.dequantize()`.

    Call arguments:
        inputs: Token ids, or hidden states if `reverse`.
        reverse: Whether to compute logits from hidden states.

    Input shape:
        Integers of shape `(batch_size, ...)`; in reverse numbers of shape
        `(batch_size, ..., output_dim)`.

    Output shape:
        `(batch_size, ..., output_dim)`; in reverse `(batch_size, ..., input_dim)`.

    An id out of range does what it does in `keras.layers.Embedding`: an error on
    TensorFlow (CPU) and torch, NaN on JAX, and ids from `-input_dim` on count from the
    end of the vocabulary.

    Example:

    >>> import keras_messi, math, numpy as np
    >>> layer = keras_messi.layers.MessiEmbedding(20, 10, num_clusters=2, rank=3)
    >>> layer(np.array([[0, 19, 5]])).shape == (1, 3, 10)
    True
    >>> sum(math.prod(w.shape) for w in layer.trainable_weights)  # 3 (20 + 2 * 10)
    120
    >>> layer(np.ones((1, 3, 10)), reverse=True).shape == (1, 3, 20)
    True

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290), Section 2,
          steps 4 and 5 of the pipeline, and Figure 3.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        num_clusters: int,
        rank: int | Sequence[int],
        cluster_sizes: Sequence[int] | None = None,
        mask_zero: bool = False,
        lookup: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_dim=input_dim,
            output_dim=output_dim,
            num_clusters=num_clusters,
            rank=rank,
            cluster_sizes=cluster_sizes,
            mask_zero=mask_zero,
            **kwargs,
        )
        if lookup not in ("auto", "wide"):
            raise ValueError(
                f'`lookup` must be "auto" or "wide". Received: lookup={lookup!r}'
            )
        self.lookup = lookup
        if keras.backend.backend() == "tensorflow" and lookup == "auto":
            # Keeps jit_compile="auto" off: XLA can't compile shapes that it can't know.
            self.supports_jit = self.num_clusters == 1

    def _add_weights(self, n: int) -> None:
        self._add_factors(n, self.output_dim)

    def _is_wide(self) -> bool:
        return self.lookup == "wide" or is_static()

    def _look_up(self, tokens: Any) -> Any:
        dtype, factors = self.compute_dtype, self._factors
        if self.routing is None:
            rows = ops.take(self.coordinates[0], tokens, axis=0)
            rows = factors.as_numbers(rows, 0, dtype)
            rows = times(rows, factors.basis_steps(dtype))
            rows = ops.matmul(rows, factors.read_bases(dtype))
            return times(rows, factors.row_steps_at(tokens, dtype))
        # This is where an id out of range is found: what follows could not tell.
        # A table of two axes, as torch exports a look-up in no other to ONNX.
        positions = ops.take(ops.expand_dims(self.routing, 1), tokens, axis=0)
        positions = ops.squeeze(positions, axis=-1)
        read = rows_wide if self._is_wide() else rows_by_cluster
        return read(positions, factors, dtype)

    def _products(self, states: Any) -> Any:
        dtype, factors = self._logits_dtype, self._factors
        # Transposed, so that the rows of the vocabulary can be gathered whole.
        x = ops.matmul(factors.multiplied_bases(dtype), ops.transpose(states))
        tables = factors.multiplied_coordinates(dtype)
        blocks = list(map(ops.matmul, tables, split(x, self.ranks)))
        x = ops.concatenate(blocks, axis=0)  # (input_dim, rows), by cluster
        if self.routing is not None:
            x = take_rows(x, self.routing)
        return ops.transpose(x)

    @property
    def embeddings(self) -> Any:
        """The dense table `(input_dim, output_dim)`, multiplied out; read-only."""
        return self._matrix()

    @staticmethod
    def _positions(routing: Any) -> Any:
        # Routing gives the position of each token directly, so that call() can look
        # up a few tokens without sorting the vocabulary.
        return routing

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "lookup": self.lookup}
