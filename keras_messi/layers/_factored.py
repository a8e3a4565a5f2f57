"""What the factored layers share: a matrix stored as k pairs of factors."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_messi.layers._backend import split
from keras_messi.layers._checks import check_positive
from keras_messi.layers._factors import Factors
from keras_messi.layers._quantized import BITS, packed_length
from keras_messi.layers._quantizing import QuantizedFactors, check_mode


class FactoredMatrix(QuantizedFactors):
    """A matrix A of shape (n, d) whose rows lie on k subspaces.

    Row i of cluster c is ``coordinates[c][position of i in c] @ bases[c]``. The
    clusters stand one after another; ``routing`` is the one int weight that ties the
    rows of A to that order, and it is absent where they have that order already.

    On disk ``routing`` is stored as the cluster ids of the rows, in the smallest
    unsigned type: a byte a row up to 256 clusters.

    With ``quantization`` the factors are int8 codes with a scale for each row, and not
    trainable.
    """

    def __init__(
        self,
        num_clusters: int,
        rank: int | Sequence[int],
        cluster_sizes: Sequence[int] | None = None,
        coordinates_initializer: Any = "glorot_uniform",
        bases_initializer: Any = "glorot_uniform",
        factors_regularizer: Any = None,
        quantization: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_mode("quantization", quantization, (None, *BITS))
        check_positive("num_clusters", num_clusters)
        ranks = _one_per_cluster("rank", rank, num_clusters)
        self.num_clusters = int(num_clusters)
        self.rank = ranks[0] if len(set(ranks)) == 1 else ranks
        self.ranks = ranks
        self.cluster_sizes: list[int] = []  # until the layer is built
        if cluster_sizes is not None:
            self.cluster_sizes = _one_per_cluster(
                "cluster_sizes", list(cluster_sizes), num_clusters
            )
        self.coordinates_initializer = keras.initializers.get(coordinates_initializer)
        self.bases_initializer = keras.initializers.get(bases_initializer)
        self.factors_regularizer = keras.regularizers.get(factors_regularizer)
        self.quantization = quantization

    def _fit_to_shape(self, n: int, d: int) -> None:
        """Check ranks and cluster sizes against an (n, d) matrix; fill in the sizes."""
        if max(self.ranks) > d:
            raise ValueError(
                f"`rank` must not exceed the width of the matrix, {d}. "
                f"Received: rank={self.rank}"
            )
        if self.num_clusters > n:
            raise ValueError(
                "`num_clusters` must not exceed the number of rows of the matrix, "
                f"{n}. Received: num_clusters={self.num_clusters}"
            )
        if not self.cluster_sizes:
            clusters = np.arange(n) * self.num_clusters // n
            self.cluster_sizes = np.bincount(clusters).tolist()
        if sum(self.cluster_sizes) != n:
            raise ValueError(
                f"`cluster_sizes` must sum to the number of rows of the matrix, {n}. "
                f"Received: cluster_sizes={self.cluster_sizes}"
            )

    def _add_factors(self, n: int, d: int, grouped: bool = False) -> None:
        """Create the weights of an (n, d) matrix; grouped: its rows come by cluster."""
        self._fit_to_shape(n, d)
        self.row_scales = self.basis_scales = None
        if self.quantization is None:
            self._add_coordinates()
            self._add_bases(d)
        else:
            self._add_quantized_coordinates(self.quantization)
            self._add_quantized_bases(d, self.quantization)
        self.routing = None
        if self.num_clusters > 1 and not grouped:
            self.routing = self.add_weight(
                name="routing",
                shape=(n,),
                initializer=lambda shape, dtype: ops.arange(shape[0], dtype=dtype),
                dtype="int32",
                trainable=False,
                autocast=False,
            )

    def _add_coordinates(self) -> None:
        self.coordinates = [
            self.add_weight(
                name=f"coordinates_{c}",
                shape=(size, rank),
                initializer=self.coordinates_initializer,
                regularizer=self.factors_regularizer,
            )
            for c, (size, rank) in enumerate(
                zip(self.cluster_sizes, self.ranks, strict=True)
            )
        ]

    def _add_bases(self, d: int) -> None:
        self.bases = self.add_weight(
            name="bases",
            shape=(sum(self.ranks), d),
            initializer=self.bases_initializer,
            regularizer=self.factors_regularizer,
        )

    def _add_quantized_coordinates(self, mode: str) -> None:
        self.coordinates = [
            self._add_zeros(
                f"coordinates_{c}", (size, packed_length(rank, mode)), "int8"
            )
            for c, (size, rank) in enumerate(
                zip(self.cluster_sizes, self.ranks, strict=True)
            )
        ]
        self.row_scales = self._add_zeros(
            "row_scales", (sum(self.cluster_sizes),), "float16"
        )

    def _add_quantized_bases(self, d: int, mode: str) -> None:
        size = sum(self.ranks)
        self.bases = self._add_zeros("bases", (packed_length(size, mode), d), "int8")
        self.basis_scales = self._add_zeros("basis_scales", (size,), "float32")

    def _add_zeros(
        self, name: str, shape: tuple[int, ...], dtype: str
    ) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer="zeros",
            dtype=dtype,
            trainable=False,
            autocast=False,
        )

    def _add_weights(self, n: int) -> None:
        """Create all weights of the layer, for a matrix of n rows."""
        raise NotImplementedError

    @property
    def _factors(self) -> Factors:
        return Factors(
            self.coordinates,
            self.bases,
            self.ranks,
            self.quantization,
            self.row_scales,
            self.basis_scales,
        )

    def _named_factors(self) -> dict[str, Any]:
        """The weights that hold the factors, by the names they are stored under."""
        named = {f"coordinates_{c}": u for c, u in enumerate(self.coordinates)}
        named["bases"] = self.bases
        if self.quantization is not None:
            named["row_scales"] = self.row_scales
            named["basis_scales"] = self.basis_scales
        return named

    @property
    def num_parameters(self) -> int:
        """Numbers in the weights, in however few bits; no scales and no ids."""
        d = self.bases.shape[1]
        sizes = zip(self.cluster_sizes, self.ranks, strict=True)
        return sum(rank * (size + d) for size, rank in sizes)

    @property
    def assignments(self) -> np.ndarray:
        """Cluster of each row of the matrix: integers of shape (n,)."""
        ids = np.repeat(np.arange(self.num_clusters), self.cluster_sizes)
        ids = ids.astype(np.min_scalar_type(self.num_clusters - 1))
        if self.routing is None:
            return ids
        return ids[ops.convert_to_numpy(self._positions(self.routing))]

    @staticmethod
    def _positions(routing: Any) -> Any:
        """Place of each row among the rows sorted by cluster; its own inverse map."""
        raise NotImplementedError

    def _matrix(self) -> Any:
        """The (n, d) matrix, multiplied out."""
        dtype = self.variable_dtype
        bases = split(self._factors.multiplied_bases(dtype), self.ranks)
        coordinates = self._factors.multiplied_coordinates(dtype)
        blocks = list(map(ops.matmul, coordinates, bases))
        matrix = ops.concatenate(blocks, axis=0)  # rows sorted by cluster
        if self.routing is None:
            return matrix
        return ops.take(matrix, self._positions(self.routing), axis=0)

    def save_own_variables(self, store: Any) -> None:
        for name, factor in self._named_factors().items():
            store[name] = factor
        if self.routing is not None:
            store["assignments"] = self.assignments

    def load_own_variables(self, store: Any) -> None:
        names = list(store.keys())
        if ("basis_scales" in names) != (self.quantization is not None):
            raise ValueError(
                f"Layer '{self.name}' expects factors as its quantization="
                f"{self.quantization!r} has them. The stored ones are {names}."
            )
        for name, factor in self._named_factors().items():
            factor.assign(store[name])
        if self.routing is not None:
            assignments = np.asarray(store["assignments"])
            sizes = np.bincount(assignments, minlength=self.num_clusters).tolist()
            if sizes != self.cluster_sizes:
                raise ValueError(
                    f"Layer '{self.name}' expects clusters of sizes "
                    f"{self.cluster_sizes}. The stored ones have sizes {sizes}."
                )
            order = np.argsort(assignments, kind="stable")
            positions = self._positions(ops.convert_to_tensor(np.argsort(order)))
            self.routing.assign(ops.cast(positions, "int32"))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_clusters": self.num_clusters,
            "rank": self.rank,
            "cluster_sizes": self.cluster_sizes or None,
            "coordinates_initializer": keras.initializers.serialize(
                self.coordinates_initializer
            ),
            "bases_initializer": keras.initializers.serialize(self.bases_initializer),
            "factors_regularizer": keras.regularizers.serialize(
                self.factors_regularizer
            ),
            "quantization": self.quantization,
        }


def _one_per_cluster(name: str, value: Any, num_clusters: int) -> list[int]:
    """An int repeated, or a checked list, of length num_clusters."""
    values = [value] * num_clusters if np.ndim(value) == 0 else list(value)
    if len(values) != num_clusters:
        raise ValueError(
            f"`{name}` must have one entry per cluster, num_clusters={num_clusters}. "
            f"Received: {name}={value!r}"
        )
    for entry in values:
        check_positive(name, entry)
    return [int(entry) for entry in values]
