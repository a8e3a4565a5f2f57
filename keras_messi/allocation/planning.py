"""The plan of a compression: which layers, and what is known of each."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_messi.allocation.budget import RankGains, allocate_numbers, rank_gains
from keras_messi.calibration.statistics import (
    Calibration,
    CalibrationStatistics,
    vocabulary_weights,
    weights_of_rows,
)
from keras_messi.configs import BudgetConfig, Config, MessiConfig, RoundingConfig
from keras_messi.layers.kinds import is_table, matrix_shape
from keras_messi.layers.sizes import count_own_parameters, stored_bytes
from keras_messi.methods.matrix import LayerMatrix, matrix_of
from keras_messi.methods.registry import reason_to_skip
from keras_messi.models.keras.surgery import Filters, NamedLayer, matches
from keras_messi.report import SkippedLayer, SkipReason

# Shares of all numbers that can be compressed: a matrix with fewer is small, and tables
# with more are much of a model.
SMALL = 0.02
MUCH = 0.1


@dataclass(eq=False)
class PlannedLayer:
    """A layer to be compressed.

    Attributes:
        named: The layer and its path.
        shape: Shape (n, d) of its matrix.
        statistics: Calibration statistics, if there are any.
        numbers: Numbers to keep, if a budget is shared between layers.
    """

    named: NamedLayer
    shape: tuple[int, int]
    statistics: Calibration | None = None
    numbers: int | None = None

    @property
    def path(self) -> str:
        """Path of the layer in its model."""
        return self.named.path

    @property
    def weights(self) -> np.ndarray | None:
        """How much the squared error of each row counts, if anything is known of it."""
        prior = None
        if self.named.is_vocabulary:
            prior = vocabulary_weights(self.shape[0])
        if self.statistics is None:
            return prior
        return weights_of_rows(self.statistics, prior)

    @property
    def layer(self) -> Any:
        """The layer to be compressed, as it is."""
        return self.named.layer

    def task(self, config: Config) -> tuple[Any, ...]:
        """The arguments of `compress_layer`."""
        return self.layer, config, self.statistics, self.numbers, self.weights

    def read_matrix(self) -> LayerMatrix:
        """The matrix with what is known of it, not kept, as models may be large."""
        return matrix_of(self.layer).told(self.statistics, self.weights)


@dataclass
class Plan:
    """What a call of `compress` does with each layer of a model.

    Attributes:
        config: What to do with each layer.
        layers: The layers to be compressed.
        skipped: The other layers that have weights, each with the reason.
    """

    config: Config
    layers: list[PlannedLayer] = field(default_factory=list)
    skipped: list[SkippedLayer] = field(default_factory=list)

    def skip(self, reasons: Mapping[str, tuple[str, str]]) -> None:
        """Leave layers as they are.

        Args:
            reasons: Reason and detail by the path of the layer.

        Raises:
            ValueError: No layer is left to be compressed.
        """
        for one in self.layers:
            if one.path in reasons:
                self.skipped.append(_skipped(one.named, *reasons[one.path]))
        self.layers = [one for one in self.layers if one.path not in reasons]
        if not self.layers:
            why = {layer.path: (layer.reason, layer.detail) for layer in self.skipped}
            raise ValueError(
                f"No layer can be compressed by {self.config}. The reasons are {why}"
            )


def make_plan(layers: Sequence[NamedLayer], config: Config, filters: Filters) -> Plan:
    """Decide which layers to compress, and why not the others.

    Args:
        layers: All layers of a model.
        config: What to do with each layer.
        filters: Which layers, as for `compress`.

    Raises:
        ValueError: The filters match no layer, none that can be compressed, or one
            whose weights are not finite.
    """
    plan, reasons = Plan(config), reasons_to_skip(layers, config, filters)
    for named in layers:
        if named.path not in reasons:
            plan.layers.append(PlannedLayer(named, matrix_shape(named.layer)))
        elif stored_bytes([named.layer]):
            plan.skipped.append(_skipped(named, *reasons[named.path]))
    plan.skip({})
    return plan


def reasons_to_skip(
    layers: Sequence[NamedLayer], config: Config, filters: Filters
) -> dict[str, tuple[str, str]]:
    """Reason and detail by path for the layers that are left as they are.

    Args:
        layers: All layers of a model.
        config: What to do with each layer.
        filters: Which layers, as for `compress`.
    """
    selected, reasons, rest = selected_layers(layers, filters), {}, []
    for named in layers:
        reason = (
            _reason_to_skip(named, config)
            if named in selected
            else (SkipReason.FILTERED_OUT, "")
        )
        if reason is None:
            rest.append(named)
        else:
            reasons[named.path] = reason
    if filters is None and isinstance(config, MessiConfig) and config.scope == "auto":
        detail = '`scope="layer"` or `filters` take it'
        alone = _left_alone(rest)
        reasons |= {x.path: (SkipReason.LEFT_ALONE, detail) for x in alone}
    return reasons


def _left_alone(layers: Sequence[NamedLayer]) -> list[NamedLayer]:
    """Which layers to leave alone where nobody said which to compress."""
    sizes = {named: math.prod(matrix_shape(named.layer)) for named in layers}
    total = sum(sizes.values())
    large = [named for named, size in sizes.items() if size >= SMALL * total]
    chosen = [named for named in large if is_table(named.layer)]
    if sum(sizes[named] for named in chosen) < MUCH * total:
        chosen = [x for x in large if not (x.is_last or is_table(x.layer))]
    return [named for named in layers if chosen and named not in chosen]


def selected_layers(layers: Sequence[NamedLayer], filters: Filters) -> list[NamedLayer]:
    """The layers that filters match, of which there must be some."""
    selected = [named for named in layers if matches(named, filters)]
    if not selected:
        raise ValueError(
            f"`filters` must match a layer. Received: filters={filters!r}, and the "
            f"layers are {[named.path for named in layers]}"
        )
    return selected


def _reason_to_skip(named: NamedLayer, config: Config) -> tuple[str, str] | None:
    if isinstance(config, BudgetConfig):  # which tries, for one, to round
        config = RoundingConfig(8, None)
    reason = reason_to_skip(named.layer, config)
    if reason is None and named.obstacle:
        return SkipReason.REFUSED, named.obstacle
    return reason


def _skipped(named: NamedLayer, reason: str, detail: str) -> SkippedLayer:
    return SkippedLayer(
        path=named.path,
        layer_type=named.layer_type,
        parameters=count_own_parameters(named.layer),
        reason=reason,
        detail=detail,
    )


# Makes the gains of layers comparable: all in what they change of the outputs.
Weigh = Callable[
    [Plan, CalibrationStatistics | None, Mapping[str, RankGains]],
    Mapping[str, RankGains],
]


def allocate(
    plan: Plan, statistics: CalibrationStatistics | None, weigh: Weigh
) -> None:
    """Note the statistics of each layer, and share a budget between them, if any.

    Layers for which all their numbers are worth it are left as they are, unless they
    are quantized.

    Args:
        plan: The plan, whose layers are changed.
        statistics: Calibration statistics of the same model, if there are any.
        weigh: What makes the gains of its layers comparable.

    Raises:
        ValueError: The budget is too small, or no layer is left to be compressed.
    """
    config = plan.config
    if statistics is not None:
        _add_statistics(plan, statistics)
    if not isinstance(config, MessiConfig):
        return
    if not _shares_a_budget(config, len(plan.layers)):
        return
    gains: Mapping[str, RankGains] = {
        one.path: rank_gains(one.read_matrix(), config) for one in plan.layers
    }
    size = sum(one.size for one in gains.values())
    gains = weigh(plan, statistics, gains)
    numbers = allocate_numbers(gains, config.numbers_for(size))
    for one in plan.layers:
        one.numbers = numbers[one.path]
    if not isinstance(config.quantization, str):
        whole = [path for path, own in numbers.items() if own == gains[path].size]
        plan.skip({path: (SkipReason.WHOLE, "") for path in whole})


def _shares_a_budget(config: MessiConfig, num_layers: int) -> bool:
    if config.scope == "auto":
        return num_layers > 1 and not config.is_uniform
    return config.scope == "model"


def _add_statistics(plan: Plan, statistics: CalibrationStatistics) -> None:
    for one in plan.layers:
        one.statistics = statistics.by_path.get(one.path)
        if one.statistics is not None and one.statistics.size != one.shape[0]:
            raise ValueError(
                "`calibration_data` must be of the same model. Received: data on "
                f"{one.statistics.size} inputs or ids at layer '{one.path}', which "
                f"has {one.shape[0]}"
            )
