"""A Dense layer whose kernel is stored as k pairs of factors."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_messi.layers._backend import split, take_rows, transposed_matmul
from keras_messi.layers._dense import DenseOutputs
from keras_messi.layers._factored import FactoredMatrix
from keras_messi.layers._factors import column, times


@keras.saving.register_keras_serializable(package="keras_messi")
class MessiDense(DenseOutputs, FactoredMatrix):
    """Densely connected layer whose kernel rows lie on k subspaces.

    The inputs are dealt out to k clusters, `x_1, ..., x_k`; the layer computes
    `activation([x_1 @ U_1, ..., x_k @ U_k] @ V + bias)`, where `U_c`, of shape
    `(n_c, j_c)`, holds the coordinates of the kernel rows of cluster c, and `V`, of
    shape `(j_1 + ... + j_k, units)`, the bases of the subspaces one below the other.
    With one cluster it is the factorization by singular value decomposition.

    It stores `sum_c j_c (n_c + units)` numbers, the bias and one cluster id per input,
    and multiplies `sum_c j_c (n_c + units)` times per row. The kernel is never formed.

    Args:
        units: Positive integer, dimensionality of the output space.
        num_clusters: Positive integer, number of clusters k.
        rank: Rank j of every cluster, or a list of one rank per cluster.
        cluster_sizes: List of k integers, number of inputs in each cluster. By default
            the inputs are dealt out evenly.
        grouped_inputs: Whether the inputs come cluster by cluster already, so that the
            layer needs no cluster ids. See `keras_messi.compress`.
        activation: Activation function.
        use_bias: Whether the layer uses a bias vector.
        coordinates_initializer: Initializer for the coordinates `U_c`.
        bases_initializer: Initializer for the bases `V`.
        bias_initializer: Initializer for the bias vector.
        factors_regularizer: Regularizer applied to each `U_c` and to `V`.
        bias_regularizer: Regularizer applied to the bias vector.
        quantization: None, `"int8"` or `"int4"`: whether the factors are codes of 8 or
            4 bits a number, with a scale for each row, and not trainable. See also
            `layer.quantize(mode)` and `layer.dequantize()`.
        activity_regularizer: Regularizer applied to the output.
        bias_constraint: Constraint applied to the bias vector.

    Input shape:
        `(batch_size, ..., input_dim)`.

    Output shape:
        `(batch_size, ..., units)`.

    Example:

    >>> import keras, keras_messi, math
    >>> layer = keras_messi.layers.MessiDense(10, num_clusters=2, rank=3)
    >>> layer(keras.ops.ones((4, 20))).shape == (4, 10)
    True
    >>> sum(math.prod(w.shape) for w in layer.trainable_weights)  # 3 (20 + 2 * 10) + 10
    130

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290), Section 2,
          steps 4 and 5 of the pipeline, and Figure 3.
    """

    def __init__(
        self,
        units: int,
        num_clusters: int,
        rank: int | Sequence[int],
        cluster_sizes: Sequence[int] | None = None,
        grouped_inputs: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units=units,
            num_clusters=num_clusters,
            rank=rank,
            cluster_sizes=cluster_sizes,
            **kwargs,
        )
        self.grouped_inputs = grouped_inputs

    def _add_weights(self, n: int) -> None:
        self._add_factors(n, self.units, grouped=self.grouped_inputs)
        self._add_bias()

    def _products(self, inputs: Any) -> Any:
        dtype = self.compute_dtype
        x = times(self._coordinates_of(inputs), self._factors.basis_steps(dtype))
        return ops.matmul(x, self._factors.read_bases(dtype))

    def _coordinates_of(self, inputs: Any) -> Any:
        """Inputs times the coordinates of their clusters: (..., j_1 + ... + j_k)."""
        dtype = self.compute_dtype
        steps = self._factors.row_steps(dtype)
        tables = [
            self._factors.read_coordinates(c, dtype) for c in range(len(self.ranks))
        ]
        if self.routing is None:
            parts = split(times(inputs, steps), self.cluster_sizes, axis=-1)
            blocks = map(ops.matmul, parts, tables)
            return ops.concatenate(list(blocks), axis=-1)
        # Whole rows of the transposed inputs are gathered, which is faster than single
        # numbers of each input, and the one gather that torch exports to ONNX.
        columns = ops.transpose(ops.reshape(inputs, (-1, inputs.shape[-1])))
        columns = take_rows(columns, self.routing)  # clusters one after another
        parts = split(times(columns, column(steps)), self.cluster_sizes)
        blocks = map(transposed_matmul, parts, tables)
        x = ops.concatenate(list(blocks), axis=-1)
        return ops.reshape(x, (*ops.shape(inputs)[:-1], sum(self.ranks)))

    @property
    def kernel(self) -> Any:
        """The dense kernel of shape `(input_dim, units)`, multiplied out; read-only."""
        return self._matrix()

    @staticmethod
    def _positions(routing: Any) -> Any:
        # Routing lists the inputs cluster by cluster, so that call() can gather them.
        return ops.argsort(routing)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grouped_inputs": self.grouped_inputs}
