"""Compressed stand-ins for single layers: the one door to kprojclust."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from keras_messi.configs import MessiConfig
from keras_messi.layers import MessiDense, MessiEmbedding
from keras_messi.report import SkipReason
from kprojclust import KSubspaces


class Factors(NamedTuple):
    """A matrix as clusters of rows, each with coordinates on the cluster's basis."""

    assignments: np.ndarray  # (n,)
    coordinates: list[np.ndarray]  # (n_c, j_c) each
    bases: list[np.ndarray]  # (j_c, d) each
    relative_error: float

    def stored(self) -> dict[str, np.ndarray]:
        """The factors under the names that the layers store them by."""
        tables = {f"coordinates_{c}": u for c, u in enumerate(self.coordinates)}
        bases = np.concatenate(self.bases)
        return {**tables, "bases": bases, "assignments": self.assignments}

    def arguments(self) -> dict[str, Any]:
        """The arguments that a factored layer takes for these factors."""
        return {
            "num_clusters": len(self.bases),
            "rank": [len(basis) for basis in self.bases],
            "cluster_sizes": [len(u) for u in self.coordinates],
        }


def factorize(matrix: np.ndarray, num_clusters: int, rank: int, seed: int) -> Factors:
    """Factor a matrix around k subspaces (steps 1 to 3 of the paper's pipeline).

    Clusters without rows are dropped, and a cluster with fewer rows than the rank
    keeps no more directions than rows.

    Args:
        matrix: Array of shape (n, d).
        num_clusters: Number of subspaces k.
        rank: Dimension j of each.
        seed: Seed of the clustering.
    """
    labels = _cluster(matrix, num_clusters, rank, seed)
    kept, assignments = np.unique(labels, return_inverse=True)
    coordinates, bases, squared_error = [], [], 0.0
    for c in range(len(kept)):
        rows = matrix[assignments == c]
        basis = KSubspaces(1, min(rank, len(rows))).fit(rows).components_[0]
        coordinates.append(rows @ basis.T)
        bases.append(basis)
        residuals = rows - coordinates[-1] @ basis
        squared_error += float(np.sum(residuals**2, dtype=np.float64))
    energy = float(np.sum(matrix**2, dtype=np.float64))
    return Factors(
        assignments, coordinates, bases, squared_error / energy if energy else 0.0
    )


def _cluster(matrix: np.ndarray, num_clusters: int, rank: int, seed: int) -> np.ndarray:
    if num_clusters == 1:
        return np.zeros(len(matrix), int)
    known = _CLUSTERINGS.get()
    key = "" if known is None else f"{fingerprint(matrix)}-{num_clusters}"
    init = "k-means" if known is None else known.get(key, "k-means")
    model = KSubspaces(num_clusters, rank, init=init, n_init=1, random_state=seed)
    with warnings.catch_warnings():
        # Fewer subspaces than asked for are legal here, and the report shows them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = model.fit_predict(matrix)
    if known is not None:
        known[key] = labels.astype(np.min_scalar_type(num_clusters - 1))
    return labels


_CLUSTERINGS: ContextVar[dict[str, np.ndarray] | None] = ContextVar(
    "clusterings", default=None
)


@contextmanager
def shared_clusterings(labels: dict[str, np.ndarray]) -> Iterator[None]:
    """Let each clustering start from the last one of the same matrix with the same k.

    Args:
        labels: Those to start from, by a key of their own; new ones are put there.
    """
    token = _CLUSTERINGS.set(labels)
    try:
        yield
    finally:
        _CLUSTERINGS.reset(token)


def fingerprint(matrix: np.ndarray) -> str:
    """A text that no other matrix has."""
    rows = np.ascontiguousarray(matrix)
    return hashlib.blake2b(rows.data, digest_size=8).hexdigest()


def _compress_dense(
    layer: keras.layers.Dense, config: MessiConfig
) -> tuple[keras.Layer, float]:
    matrix = read_matrix(layer)
    factors = _factorize_for(matrix, config)
    old = layer.get_config()
    new = MessiDense(
        **factors.arguments(),
        **{key: old.get(key) for key in (*_CARRIED, *_CARRIED_DENSE)},
        factors_regularizer=old["kernel_regularizer"],
    )
    new.build((None, len(matrix)))
    store = factors.stored()
    if layer.use_bias:
        store["bias"] = keras.ops.convert_to_numpy(layer.bias)
    new.load_own_variables(store)
    return new, factors.relative_error


def _compress_embedding(
    layer: keras.layers.Embedding, config: MessiConfig
) -> tuple[keras.Layer, float]:
    factors = _factorize_for(read_matrix(layer), config)
    old = layer.get_config()
    carried = [*_CARRIED, *_CARRIED_EMBEDDING]
    if plain_type(layer) is keras.layers.ReversibleEmbedding:
        carried += _CARRIED_REVERSIBLE
    new = MessiEmbedding(
        **factors.arguments(),
        **{key: old[key] for key in carried},
        factors_regularizer=old["embeddings_regularizer"],
    )
    new.build()
    new.load_own_variables(factors.stored())
    return new, factors.relative_error


def _factorize_for(matrix: np.ndarray, config: MessiConfig) -> Factors:
    rank = config.rank_for(*matrix.shape)
    return factorize(matrix, config.num_clusters, rank, config.seed)


_CARRIED = ("name", "trainable", "dtype")
_CARRIED_DENSE = (
    "units",
    "activation",
    "use_bias",
    "bias_initializer",
    "bias_regularizer",
    "bias_constraint",
    "activity_regularizer",
)
_CARRIED_EMBEDDING = ("input_dim", "output_dim", "mask_zero")
_CARRIED_REVERSIBLE = ("reverse_dtype", "logit_soft_cap")

Compressor = Callable[[Any, Any], tuple[keras.Layer, float]]

COMPRESSORS: dict[tuple[type, type], Compressor] = {
    (MessiConfig, keras.layers.Dense): _compress_dense,
    (MessiConfig, keras.layers.Embedding): _compress_embedding,
    (MessiConfig, keras.layers.ReversibleEmbedding): _compress_embedding,
}

# Name of the weight that is the matrix to factor; its rows are clustered.
_MATRIX = {
    keras.layers.Dense: "kernel",
    keras.layers.Embedding: "embeddings",
    keras.layers.ReversibleEmbedding: "embeddings",
}


def plain_type(layer: keras.Layer) -> type:
    """The class whose code a layer runs: its own, unless that is only a new name.

    A subclass with code of its own may compute something else.
    """
    return next(cls for cls in type(layer).__mro__ if _has_code(cls))


def _has_code(cls: type) -> bool:
    code = (property, classmethod, staticmethod)
    return any(callable(x) or isinstance(x, code) for x in vars(cls).values())


def is_supported(layer: keras.Layer, config: Any) -> bool:
    """Whether there is a compressor for such a layer and such a config."""
    return (type(config), plain_type(layer)) in COMPRESSORS


def compress_layer(layer: keras.Layer, config: Any) -> tuple[keras.Layer, float]:
    """A smaller stand-in for a layer, and the relative squared error of its matrix."""
    return COMPRESSORS[type(config), plain_type(layer)](layer, config)


def has_matrix(layer: keras.Layer) -> bool:
    """Whether the layer is built and of a type whose matrix can be factored."""
    return plain_type(layer) in _MATRIX and layer.built


def read_matrix(layer: keras.Layer) -> np.ndarray:
    """The matrix of a layer as float32 or float64, rows to be clustered."""
    matrix = keras.ops.convert_to_numpy(getattr(layer, _MATRIX[plain_type(layer)]))
    return matrix.astype(np.result_type(matrix.dtype, np.float32), copy=False)


def matrix_shape(layer: keras.Layer) -> tuple[int, int]:
    """Shape (n, d) of the matrix of a layer."""
    n, d = getattr(layer, _MATRIX[plain_type(layer)]).shape
    return int(n), int(d)


def reason_to_skip(layer: keras.Layer, config: MessiConfig) -> tuple[str, str] | None:
    """Why a layer can't be compressed, as (reason, detail); None if it can.

    Raises:
        ValueError: The weights of the layer are not finite.
    """
    if not (is_supported(layer, config) and has_matrix(layer)):
        return SkipReason.NOT_SUPPORTED, _why_not_supported(layer)
    if not getattr(layer, "tie_weights", True):
        return SkipReason.NOT_SUPPORTED, "its reverse projection is not tied"
    if layer.quantization_mode or layer.lora_enabled:
        return SkipReason.QUANTIZED, ""
    weight = _MATRIX[plain_type(layer)]
    if getattr(layer, f"{weight}_constraint") is not None:
        return SkipReason.CONSTRAINED, f"the factors can't keep that of the {weight}"
    matrix = read_matrix(layer)
    if not np.isfinite(matrix).all():
        raise ValueError(
            f"`{weight}` of layer '{layer.name}' must be finite. It holds "
            f"{np.sum(~np.isfinite(matrix))} NaN or infinite values."
        )
    return _reason_by_size(matrix, config)


def _why_not_supported(layer: keras.Layer) -> str:
    base = next((base for base in _MATRIX if isinstance(layer, base)), None)
    return f"a {base.__name__} with code of its own" if base else ""


def _reason_by_size(matrix: np.ndarray, config: MessiConfig) -> tuple[str, str] | None:
    n, d = matrix.shape
    k, rank = config.num_clusters, config.rank_for(n, d)
    if n < k:
        return SkipReason.TOO_FEW_ROWS, f"num_clusters={k}, {n} rows"
    if rank > d:
        return SkipReason.RANK_TOO_LARGE, f"rank={rank}, width {d}"
    if rank < 1:
        needed = n + k * d
        return SkipReason.NO_RANK, (
            f"rate={config.rate} with num_clusters={k} leaves rank 0; rank 1 takes "
            f"{needed} of {n * d} numbers"
        )
    size = stored_size(n, d, config, matrix.itemsize)
    if size >= matrix.nbytes:
        return SkipReason.WOULD_GROW, (
            f"rank {rank} with num_clusters={k} takes {size} of {matrix.nbytes} bytes"
        )
    return None


def stored_size(n: int, d: int, config: MessiConfig, itemsize: int) -> int:
    """Bytes of the factors of an (n, d) matrix as stored on disk, at most.

    Clusters with fewer rows than the rank take less.
    """
    k = config.num_clusters
    ids = n * np.min_scalar_type(k - 1).itemsize if k > 1 else 0
    return config.rank_for(n, d) * (n + k * d) * itemsize + ids
