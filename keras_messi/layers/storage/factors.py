"""A matrix stored as k pairs of factors."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from keras_messi.layers._backend import spans, split, take_rows, transposed_matmul
from keras_messi.layers._checks import check_choice, check_positive
from keras_messi.layers.numbers.formats import (
    FORMATS,
    AddWeight,
    Floats,
    Tensor,
    as_floats,
    column,
    scaled,
)
from keras_messi.layers.storage.base import Storage
from keras_messi.layers.storage.lookup import rows_by_cluster, rows_wide, split_scales
from keras_messi.layers.storage.quantized_factors import quantize_factors
from keras_messi.layers.storage.raised_factors import add_product


class Factors(Storage):
    """A matrix whose rows lie on k subspaces.

    Row i of cluster c is ``coordinates[c][position of i in c] @ bases[c]``. The
    clusters stand one after another; ``routing`` is the one int weight that ties the
    rows of A to that order, and it is absent where they have that order already.

    On disk ``routing`` is stored as the cluster ids of the rows, in the smallest
    unsigned type: a byte a row up to 256 clusters.

    With ``quantization`` the factors are integers with a scale for each row, and not
    trainable.
    """

    weights: ClassVar[tuple[str, ...]] = (
        "ranks",
        "assignments",
        "coordinates",
        "bases",
        "routing",
        "row_scales",
        "basis_scales",
    )
    can_quantize = True
    # Whether the rows come cluster by cluster, so that there is no routing.
    grouped = False

    def __init__(
        self,
        num_clusters: int,
        rank: int | Sequence[int],
        cluster_sizes: Sequence[int] | None = None,
        coordinates_initializer: Any = "glorot_uniform",
        bases_initializer: Any = "glorot_uniform",
        factors_regularizer: Any = None,
        quantization: str | None = None,
    ) -> None:
        check_choice("quantization", quantization, FORMATS)
        check_positive("num_clusters", num_clusters)
        self.num_clusters = int(num_clusters)
        self._set_ranks(_one_per_cluster("rank", rank, num_clusters))
        self.cluster_sizes: list[int] = []  # until it is built
        if cluster_sizes is not None:
            self.cluster_sizes = _one_per_cluster(
                "cluster_sizes", list(cluster_sizes), num_clusters
            )
        self.coordinates_initializer = keras.initializers.get(coordinates_initializer)
        self.bases_initializer = keras.initializers.get(bases_initializer)
        self.factors_regularizer = keras.regularizers.get(factors_regularizer)
        self.regularizer = self.factors_regularizer
        self.quantization = quantization

    def _set_ranks(self, ranks: list[int]) -> None:
        self.rank = ranks[0] if len(set(ranks)) == 1 else ranks
        self.ranks = ranks

    def build(
        self, add_weight: AddWeight, shape: tuple[int, int], by_rows: bool
    ) -> None:
        self._fit_to_shape(*shape)
        self.shape, self._by_rows = shape, by_rows
        self.row_scales: keras.Variable | None = None
        self._add_coordinates(add_weight)
        self.bases = self._format.add_table(
            add_weight,
            "bases",
            (sum(self.ranks), shape[1]),
            axis=0,
            initializer=self.bases_initializer,
            regularizer=self.factors_regularizer,
        )
        self.basis_scales = self._format.add_scales(
            add_weight, "basis_scales", sum(self.ranks), "float32"
        )
        self.routing: Any = None
        if self.num_clusters > 1 and not self.grouped:
            self.routing = add_weight(
                name="routing",
                shape=(shape[0],),
                initializer=lambda shape, dtype: ops.arange(shape[0], dtype=dtype),
                dtype="int32",
                trainable=False,
                autocast=False,
            )

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

    def _add_coordinates(self, add_weight: AddWeight) -> None:
        self.coordinates = [
            self._format.add_table(
                add_weight,
                f"coordinates_{c}",
                shape,
                axis=1,
                initializer=self.coordinates_initializer,
                regularizer=self.factors_regularizer,
            )
            for c, shape in enumerate(zip(self.cluster_sizes, self.ranks, strict=True))
        ]
        self.row_scales = self._format.add_scales(
            add_weight, "row_scales", self.shape[0], "float16"
        )

    @property
    def _format(self) -> Floats:
        return FORMATS[self.quantization]

    # Reading. Of integers, coordinates and bases are read without their scales, which
    # may be multiplied where there is less to multiply. Of floats there are no scales.

    def reader(self, dtype: str) -> Callable[[Tensor, int], Tensor]:
        """What turns rows of `coordinates[c]`, and c, into numbers `(..., j_c)`."""
        return lambda rows, c: self._format.read(rows, self.ranks[c], -1, dtype)

    def _tables(self, dtype: str) -> list[Tensor]:
        """The k tables `U_c`, without scales."""
        read = self.reader(dtype)
        return [read(table, c) for c, table in enumerate(self.coordinates)]

    def _scaled_tables(self, dtype: str) -> list[Tensor]:
        """The k tables `U_c`."""
        scales = split_scales(self.row_scales_in(dtype), self.cluster_sizes)
        tables = zip(self._tables(dtype), scales, strict=True)
        return [scaled(table, column(own)) for table, own in tables]

    def read_bases(self, dtype: str) -> Tensor:
        """All `V_c` without scales, of shape `(j_1 + ... + j_k, d)`."""
        return self._format.read(self.bases, sum(self.ranks), -2, dtype)

    def _scaled_bases(self, dtype: str) -> Tensor:
        """All `V_c`, of shape `(j_1 + ... + j_k, d)`."""
        return scaled(self.read_bases(dtype), column(self.basis_scales_in(dtype)))

    def row_scales_in(self, dtype: str) -> Tensor | None:
        """What to multiply all rows of the `U_c` by, of shape `(n,)`."""
        return self._format.read_scales(self.row_scales, dtype)

    def row_scales_at(self, places: Tensor, dtype: str) -> Tensor | None:
        """The same of some rows, of shape `(*places.shape, 1)`."""
        # Cast first, as LiteRT looks up no float16; and in a table of two axes, as
        # torch exports a look-up in no other to ONNX.
        scales = column(self.row_scales_in(dtype))
        return None if scales is None else ops.take(scales, places, axis=0)

    def basis_scales_in(self, dtype: str) -> Tensor | None:
        """What to multiply the rows of all `V_c` by."""
        return self._format.read_scales(self.basis_scales, dtype)

    def multiply(self, x: Tensor, dtype: str) -> Tensor:
        coordinates = self._multiply_coordinates(x, dtype)
        coordinates = scaled(coordinates, self.basis_scales_in(dtype))
        return ops.matmul(coordinates, self.read_bases(dtype))

    def _multiply_coordinates(self, x: Tensor, dtype: str) -> Tensor:
        """x times the coordinates of their clusters: (..., j_1 + ... + j_k)."""
        scales, tables = self.row_scales_in(dtype), self._tables(dtype)
        if self.routing is None:
            parts = split(scaled(x, scales), self.cluster_sizes, axis=-1)
            blocks = map(ops.matmul, parts, tables)
            return ops.concatenate(list(blocks), axis=-1)
        # Whole rows of the transposed inputs are gathered, which is faster than single
        # numbers of each input, and the one gather that torch exports to ONNX.
        columns = ops.transpose(ops.reshape(x, (-1, x.shape[-1])))
        columns = take_rows(columns, self._order)  # clusters one after another
        parts = split(scaled(columns, column(scales)), self.cluster_sizes)
        blocks = map(transposed_matmul, parts, tables)
        products = ops.concatenate(list(blocks), axis=-1)
        return ops.reshape(products, (*ops.shape(x)[:-1], sum(self.ranks)))

    def multiply_transposed(self, x: Tensor, dtype: str) -> Tensor:
        # Transposed, so that the rows of the matrix can be gathered whole.
        products = ops.matmul(self._scaled_bases(dtype), ops.transpose(x))
        parts = split(products, self.ranks)
        blocks = list(map(ops.matmul, self._scaled_tables(dtype), parts))
        products = ops.concatenate(blocks, axis=0)  # (n, rows), by cluster
        if self.routing is not None:
            products = take_rows(products, self._positions)
        return ops.transpose(products)

    def rows(self, ids: Tensor, dtype: str, static: bool = False) -> Tensor:
        if self.routing is None and self.num_clusters == 1:
            rows = ops.take(self.coordinates[0], ids, axis=0)
            rows = scaled(self.reader(dtype)(rows, 0), self.basis_scales_in(dtype))
            rows = ops.matmul(rows, self.read_bases(dtype))
            return scaled(rows, self.row_scales_at(ids, dtype))
        # This is where an id out of range is found: what follows could not tell.
        # A table of two axes, as torch exports a look-up in no other to ONNX.
        positions = ops.take(ops.expand_dims(self._positions, 1), ids, axis=0)
        positions = ops.squeeze(positions, axis=-1)
        read = rows_wide if static else rows_by_cluster
        return read(positions, self, dtype)

    def matrix(self, dtype: str) -> Tensor:
        bases = split(self._scaled_bases(dtype), self.ranks)
        blocks = list(map(ops.matmul, self._scaled_tables(dtype), bases))
        matrix = ops.concatenate(blocks, axis=0)  # rows sorted by cluster
        if self.routing is None:
            return matrix
        return ops.take(matrix, self._positions, axis=0)

    def two_factors(self, dtype: str) -> tuple[Tensor, Tensor]:
        rank, blocks = sum(self.ranks), []
        tables = zip(self._scaled_tables(dtype), spans(self.ranks), strict=True)
        for table, (start, stop) in tables:
            blocks.append(ops.pad(table, ((0, 0), (start, rank - stop))))
        left = ops.concatenate(blocks, axis=0)  # rows sorted by cluster
        if self.routing is not None:
            left = ops.take(left, self._positions, axis=0)
        return left, self._scaled_bases(dtype)

    # Routing lists the place of each row among the rows sorted by cluster, so that a
    # look-up finds a few rows without sorting; or the rows cluster by cluster, so that
    # a product gathers its inputs.

    @property
    def _positions(self) -> Tensor:
        """Place of each row among the rows sorted by cluster."""
        if self.routing is None:
            return ops.arange(self.shape[0], dtype="int32")
        return self.routing if self._by_rows else ops.argsort(self.routing)

    @property
    def _order(self) -> Tensor:
        """The rows cluster by cluster."""
        return ops.argsort(self.routing) if self._by_rows else self.routing

    @property
    def assignments(self) -> np.ndarray:
        """Cluster of each row of the matrix: integers of shape (n,)."""
        ids = np.repeat(np.arange(self.num_clusters), self.cluster_sizes)
        ids = ids.astype(np.min_scalar_type(self.num_clusters - 1))
        if self.routing is None:
            return ids
        return ids[ops.convert_to_numpy(self._positions)]

    @property
    def num_parameters(self) -> int:
        rows = zip(self.cluster_sizes, self.ranks, strict=True)
        return sum(rank * (size + self.shape[1]) for size, rank in rows)

    def numbers(self) -> dict[str, keras.Variable]:
        named = {f"coordinates_{c}": u for c, u in enumerate(self.coordinates)}
        scales = {"row_scales": self.row_scales, "basis_scales": self.basis_scales}
        named["bases"] = self.bases
        return {**named, **{k: x for k, x in scales.items() if x is not None}}

    def save(self, store: Any, owner: str) -> None:
        for name, variable in self.numbers().items():
            store[name] = variable
        if self.routing is not None:
            store["assignments"] = self.assignments

    def load(self, store: Any, owner: str) -> None:
        names = list(store.keys())
        if ("basis_scales" in names) != (self.quantization is not None):
            raise ValueError(
                f"Layer '{owner}' expects factors as its quantization="
                f"{self.quantization!r} has them. The stored ones are {names}."
            )
        for name, variable in self.numbers().items():
            variable.assign(store[name])
        if self.routing is not None:
            self._assign_routing(np.asarray(store["assignments"]), owner)

    def _assign_routing(self, assignments: np.ndarray, owner: str) -> None:
        sizes = np.bincount(assignments, minlength=self.num_clusters).tolist()
        if sizes != self.cluster_sizes:
            raise ValueError(
                f"Layer '{owner}' expects clusters of sizes "
                f"{self.cluster_sizes}. The stored ones have sizes {sizes}."
            )
        order = np.argsort(assignments, kind="stable")
        routing = np.argsort(order) if self._by_rows else order
        self.routing.assign(routing.astype("int32"))

    def quantized(
        self, numbers: dict[str, np.ndarray], mode: str
    ) -> dict[str, np.ndarray]:
        coordinates = [numbers[f"coordinates_{c}"] for c in range(self.num_clusters)]
        bases = np.split(numbers["bases"], np.cumsum(self.ranks)[:-1])
        return quantize_factors(coordinates, bases, mode)

    def dequantized(self, dtype: str) -> dict[str, Any]:
        tables = enumerate(self._scaled_tables(dtype))
        coordinates = {f"coordinates_{c}": table for c, table in tables}
        return {**coordinates, "bases": self._scaled_bases(dtype)}

    @property
    def can_merge(self) -> bool:
        return self.quantization is None

    def plus(self, a: np.ndarray, b: np.ndarray) -> tuple[Self, dict[str, np.ndarray]]:
        by_cluster = a[np.argsort(self.assignments, kind="stable")]
        tables, bases = add_product(
            [as_floats(table) for table in self.coordinates],
            np.split(as_floats(self.bases), np.cumsum(self.ranks)[:-1]),
            np.split(by_cluster, np.cumsum(self.cluster_sizes)[:-1]),
            b,
        )
        raised = copy.copy(self)
        raised._set_ranks([len(basis) for basis in bases])
        numbers = {f"coordinates_{c}": table for c, table in enumerate(tables)}
        return raised, {**numbers, "bases": np.concatenate(bases)}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cluster_sizes": self.cluster_sizes or None}


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
