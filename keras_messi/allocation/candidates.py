"""Candidates for the matrix of a layer: ways to store it, their bytes and errors."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from keras_messi.allocation.planning import PlannedLayer
from keras_messi.configs import Config, MessiConfig, RoundingConfig
from keras_messi.layers.kinds import is_table
from keras_messi.layers.sizes import stored_bytes
from keras_messi.methods.clustering import shared_clusterings
from keras_messi.methods.registry import Compressed, fit_layer, reason_to_skip

# Shares of the numbers to remove before the rest takes a few bits.
_RATES = (0.5, 0.65, 0.8, 0.9)
# Tables with fewer rows have few clusters, as kernels have.
_MANY_ROWS = 10_000
# Kernels with more numbers are factored by SVD only: their clusters take minutes.
_LARGE_KERNEL = 300_000


class Candidate(NamedTuple):
    """A way to store a layer.

    Attributes:
        config: How it is made; None for the layer as it is.
        found: The new layer and its errors; None for the layer as it is.
        num_bytes: Bytes that it stores.
        error: Relative squared error of its outputs, or of its matrix if those are not
            known.
    """

    config: Config | None
    found: Compressed | None
    num_bytes: int
    error: float


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
    else:
        whole = [
            RoundingConfig(8, None),
            RoundingConfig(4, 128),
            RoundingConfig(3, 64),
            RoundingConfig(2, 64, levels="uniform"),
        ]
        clusters, bits = (1 if n * d > _LARGE_KERNEL else 5), (4, 3)
    factored = [
        MessiConfig(
            rate=rate,
            num_clusters=min(clusters, n),
            scope="layer",
            quantization=RoundingConfig(b, seed=seed),
            seed=seed,
        )
        for rate in _RATES
        for b in bits
    ]
    return [*whole, *factored]


def as_it_is(one: PlannedLayer) -> Candidate:
    """The layer with all its numbers as they are."""
    return Candidate(None, None, stored_bytes([one.layer]), 0.0)


def candidates_of(
    one: PlannedLayer, seed: int, done: Callable[[], Any]
) -> list[Candidate]:
    """All candidates of a layer that no other one beats in both bytes and error.

    Args:
        one: The layer, with its statistics.
        seed: Seed of clusterings and rotations.
        done: Called after each candidate.
    """
    found = [as_it_is(one)]
    with shared_clusterings({}):
        for candidate in _fitted(one, seed, done):
            found.append(candidate)
    found.sort(key=lambda x: (x.num_bytes, x.error))
    best, least = [], float("inf")
    for candidate in found:
        if candidate.error < least:
            best.append(candidate)
            least = candidate.error
    return best


def _fitted(
    one: PlannedLayer, seed: int, done: Callable[[], Any]
) -> Iterator[Candidate]:
    for config in configs_for(one, seed):
        if reason_to_skip(one.layer, config) is None:
            found = fit_layer(one.layer, config, one.statistics, one.weights)
            size = stored_bytes([found.layer])
            yield Candidate(config, found, size, found.error)
        done()
