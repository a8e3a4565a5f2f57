"""Candidates for the matrix of a layer: ways to store it, their bytes and errors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from keras_messi.allocation.planning import PlannedLayer
from keras_messi.configs import (
    BudgetConfig,
    Config,
    EntropyCodingConfig,
    MessiConfig,
    RoundingConfig,
)
from keras_messi.layers.kinds import is_table
from keras_messi.layers.sizes import stored_bytes
from keras_messi.methods.registry import Compressed, fit_layer, reason_to_skip
from keras_messi.methods.subspaces.clustering import shared_clusterings

# Mean bits of all numbers of a matrix.
_BITS = (1.25, 1.75, 2.25, 2.75, 3.25, 4.0, 5.0)
# Shares of the numbers of a large table to remove, and mean bits of those that are
# left: from four bits a number of the table down to a third of one.
_RATES_AND_BITS = (
    *((0.3, bits) for bits in (5.0, 4.0, 3.0, 2.5)),
    *((0.5, bits) for bits in (3.0, 2.5, 2.0, 1.5)),
    *((0.7, bits) for bits in (2.5, 2.0, 1.5)),
    *((0.85, bits) for bits in (2.5, 2.0)),
)
_RATES_IN_4_BITS = (0.3, 0.5, 0.65, 0.8)
_CLUSTERS = 5
# Tables with fewer rows have no clusters.
_MANY_ROWS = 10_000


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
    coding = config.quantization if isinstance(config, MessiConfig) else config
    if isinstance(coding, EntropyCodingConfig | RoundingConfig):
        return f"{coding.bits:g} bits"
    return ""


def configs_for(one: PlannedLayer, config: BudgetConfig) -> list[Config]:
    """What to try for a layer, in rising order of what it takes to fit."""
    is_large_table = is_table(one.layer) and one.shape[0] >= _MANY_ROWS
    whole: list[Config] = []
    codings: list[tuple[float, str | EntropyCodingConfig]] = []
    if config.target is not None:  # one scale a unit, or row, is what runtimes take
        whole = [RoundingConfig(8, None), RoundingConfig(4, None)]
        if is_large_table:
            codings = [(rate, "int4") for rate in _RATES_IN_4_BITS]
    elif is_large_table:
        codings = [(rate, EntropyCodingConfig(bits)) for rate, bits in _RATES_AND_BITS]
    else:
        whole = [EntropyCodingConfig(bits) for bits in _BITS]
    factored = [
        MessiConfig(
            rate=rate,
            num_clusters=_CLUSTERS,
            scope="layer",
            quantization=coding,
            seed=config.seed,
        )
        for rate, coding in codings
    ]
    return [*whole, *factored]


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
