"""Candidates for the matrix of a layer: ways to store it, their bytes and errors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_messi.allocation.planning import PlannedLayer
from keras_messi.configs import Config, MessiConfig, RoundingConfig
from keras_messi.layers.kinds import is_table
from keras_messi.layers.sizes import stored_bytes
from keras_messi.methods.clustering import shared_clusterings
from keras_messi.methods.registry import Compressed, fit_layer, reason_to_skip

# Shares of the numbers to remove before the rest takes a few bits.
_RATES_OF_TABLES = (0.5, 0.65, 0.8)
_RATES_OF_KERNELS = (0.6, 0.8, 0.9)
# Tables with fewer rows have few clusters, as kernels have.
_MANY_ROWS = 10_000
# Kernels with more numbers are factored by SVD only: their clusters take minutes.
_LARGE_KERNEL = 300_000
# What half of the numbers may lose: 2 bits for each of them all lose about as much.
_FACTORED_LOSE = 0.05


class Candidate(NamedTuple):
    """A way to store a layer.

    Attributes:
        config: How it is made; None for the layer as it is.
        found: The layer and its errors.
        num_bytes: Bytes that it stores.
        error: Relative squared error of its outputs, or of its matrix if those are not
            known.
    """

    config: Config | None
    found: Compressed
    num_bytes: int
    error: float


def form_of(config: Config | None) -> str:
    """How the numbers of a layer are stored, in a few words."""
    rounding = config.quantization if isinstance(config, MessiConfig) else config
    if not isinstance(rounding, RoundingConfig):
        return ""
    is_rotated = rounding is not config or rounding.rotate
    return f"{rounding.bits} bits" + (", rotated" if is_rotated else "")


def configs_for(one: PlannedLayer, seed: int) -> list[Config]:
    """What to try for a layer, in rising order of what it takes to fit."""
    n, d = one.shape
    if is_table(one.layer):
        whole: list[Config] = [
            RoundingConfig(8, None),
            RoundingConfig(4, None),
            *(RoundingConfig(bits, None, rotate=True, seed=seed) for bits in (3, 2, 1)),
        ]
        clusters, bits = (20 if n >= _MANY_ROWS else 5), (3, 2)
        rates: Sequence[float] = _RATES_OF_TABLES
    else:
        whole = [
            RoundingConfig(8, None),
            RoundingConfig(4, 128),
            RoundingConfig(3, 64),
            RoundingConfig(2, 64, levels="uniform"),
        ]
        clusters, bits = (1 if n * d > _LARGE_KERNEL else 5), (4, 3)
        rates = _RATES_OF_KERNELS if _lost_by_half(one) < _FACTORED_LOSE else ()
    factored: list[Config] = [
        MessiConfig(
            rate=rate,
            num_clusters=min(clusters, n),
            scope="layer",
            quantization=RoundingConfig(b, seed=seed),
            seed=seed,
        )
        for rate in rates
        for b in bits
    ]
    return [*whole, *factored]


def _lost_by_half(one: PlannedLayer) -> float:
    """Relative squared error of the SVD of a kernel with half of its numbers."""
    matrix = one.read_matrix()
    if one.weights is not None:
        matrix = matrix * one.weights[:, np.newaxis].astype(matrix.dtype)
    energies = np.linalg.svd(matrix, compute_uv=False).astype(np.float64) ** 2
    rank = matrix.size // (2 * sum(matrix.shape))
    return float(energies[rank:].sum() / (energies.sum() or 1))


def as_it_is(one: PlannedLayer) -> Candidate:
    """The layer with all its numbers as they are."""
    return Candidate(None, Compressed(one.layer, 0.0), stored_bytes([one.layer]), 0.0)


def candidates_of(
    one: PlannedLayer, configs: Sequence[Config], done: Callable[[], Any]
) -> list[Candidate]:
    """All candidates of a layer, itself among them.

    Args:
        one: The layer, with its statistics.
        configs: What to try.
        done: Called after each candidate.
    """
    with shared_clusterings({}):
        return [as_it_is(one), *_fitted(one, configs, done)]


def best_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other one beats in both bytes and error, in rising bytes."""
    best: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda x: (x.num_bytes, x.error)):
        if not best or candidate.error < best[-1].error:
            best.append(candidate)
    return best


def _fitted(
    one: PlannedLayer, configs: Sequence[Config], done: Callable[[], Any]
) -> Iterator[Candidate]:
    for config in configs:
        if reason_to_skip(one.layer, config) is None:
            found = fit_layer(one.layer, config, one.statistics, one.weights)
            size = stored_bytes([found.layer])
            yield Candidate(config, found, size, found.error)
        done()
