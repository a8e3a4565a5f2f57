"""An Embedding layer whose table is stored as k pairs of factors."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers._factored import FactoredMatrix, check_positive, spans


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiEmbedding(FactoredMatrix):
    """Embedding layer whose rows lie on k subspaces.

    The vector of token t, in cluster c, is `U_c[position of t in c] @ V_c`, where
    `U_c`, of shape `(n_c, j_c)`, holds coordinates and `V_c`, of shape
    `(j_c, output_dim)`, is the basis of the subspace of cluster c. With one cluster it
    is the factorization by singular value decomposition.

    It stores `sum_c j_c (n_c + output_dim)` numbers and one cluster id per token. A
    look-up multiplies `output_dim * sum_c j_c` times per token.

    Args:
        input_dim: Positive integer, size of the vocabulary.
        output_dim: Positive integer, dimension of the embedding.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster.
        cluster_sizes: List of k integers, number of tokens in each cluster. By default
            the tokens are dealt out evenly.
        mask_zero: Whether the input value 0 is padding that should be masked out.
        coordinates_initializer: Initializer for the coordinates `U_c`.
        bases_initializer: Initializer for the bases `V_c`.
        factors_regularizer: Regularizer applied to each `U_c` and to all `V_c`.

    Input shape:
        Integers of shape `(batch_size, ...)`.

    Output shape:
        `(batch_size, ..., output_dim)`.

    Example:

    >>> import keras_messi, math, numpy as np
    >>> layer = keras_messi.layers.MessiEmbedding(20, 10, num_clusters=2, rank=3)
    >>> layer(np.array([[0, 19, 5]])).shape == (1, 3, 10)
    True
    >>> sum(math.prod(w.shape) for w in layer.trainable_weights)  # 3 (20 + 2 * 10)
    120

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
        **kwargs: Any,
    ) -> None:
        super().__init__(num_clusters, rank, cluster_sizes, **kwargs)
        check_positive("input_dim", input_dim)
        check_positive("output_dim", output_dim)
        self.input_dim = int(input_dim)
        self.output_dim = int(output_dim)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        # Rows are gathered first and cast after: autocast would cast the whole table.
        self.autocast = False

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        self._add_factors(self.input_dim, self.output_dim)
        self.built = True

    def call(self, inputs: Any) -> Any:
        tokens = inputs
        if keras.backend.standardize_dtype(inputs.dtype) not in ("int32", "int64"):
            tokens = ops.cast(inputs, "int32")
        if self.routing is None:
            coordinates = ops.take(self.coordinates[0], tokens, axis=0)  # (..., j)
        else:
            coordinates = self._coordinates_on_all_bases(tokens)  # (..., j_1 + ...)
        return ops.matmul(
            ops.cast(coordinates, self.compute_dtype),
            ops.cast(self.bases, self.compute_dtype),
        )  # (..., output_dim)

    def _coordinates_on_all_bases(self, tokens: Any) -> Any:
        """Coordinates of each token on its own basis, zeros on the others."""
        positions = ops.take(self.routing, tokens, axis=0)  # rows sorted by cluster
        blocks = []
        for table, (start, stop) in zip(
            self.coordinates, spans(self.cluster_sizes), strict=True
        ):
            inside = ops.logical_and(positions >= start, positions < stop)
            rows = ops.take(table, ops.where(inside, positions - start, 0), axis=0)
            blocks.append(ops.where(ops.expand_dims(inside, -1), rows, 0))
        return ops.concatenate(blocks, axis=-1)

    @property
    def embeddings(self) -> Any:
        """The dense table `(input_dim, output_dim)`, multiplied out; read-only."""
        return self._matrix()

    @staticmethod
    def _positions(routing: np.ndarray) -> np.ndarray:
        # Routing gives the position of each token directly, so that call() can look
        # up a few tokens without sorting the vocabulary.
        return routing

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(
        self, input_shape: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "mask_zero": self.mask_zero,
        }
