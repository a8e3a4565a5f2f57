"""Which layers of a model to compress, and why not the others."""

from collections.abc import Sequence
from typing import Any

from keras_messi.configs import Config
from keras_messi.methods.registry import reason_to_skip
from keras_messi.models.keras.sizes import count_own_parameters, stored_bytes
from keras_messi.models.keras.surgery import Filters, Place, matches
from keras_messi.report import SkippedLayer, SkipReason


def plan(
    places: list[Place], config: Config, filters: Filters
) -> tuple[list[Place], list[SkippedLayer]]:
    """Which layers to compress, and why not the others.

    Args:
        places: All places of a model.
        config: What to do with each layer.
        filters: Which layers, as for `compress`.

    Raises:
        ValueError: The filters match no layer, none that can be compressed, or one
            whose weights are not finite.
    """
    chosen, skipped = [], []
    selected = selected_places(places, filters)
    for place in places:
        if place not in selected:
            reason: tuple[str, str] | None = (SkipReason.FILTERED_OUT, "")
        else:
            reason = reason_to_skip(place.layer, config)
            if reason is None and place.obstacle:
                reason = SkipReason.REFUSED, place.obstacle
        if reason is None:
            chosen.append(place)
        elif stored_bytes([place.layer]):
            skipped.append(skip(place, *reason))
    check_any_left(chosen, config, skipped)
    return chosen, skipped


def selected_places(places: list[Place], filters: Filters) -> list[Place]:
    """The places that filters match, of which there must be some."""
    selected = [place for place in places if matches(place, filters)]
    if not selected:
        raise ValueError(
            f"`filters` must match a layer. Received: filters={filters!r}, and the "
            f"layers are {[place.path for place in places]}"
        )
    return selected


def check_any_left(
    left: Sequence[Any], config: Config, skipped: list[SkippedLayer]
) -> None:
    """Refuse to go on where nothing is left to compress."""
    if not left:
        reasons = {layer.path: (layer.reason, layer.detail) for layer in skipped}
        raise ValueError(
            f"No layer can be compressed by {config}. The reasons are {reasons}"
        )


def skip(place: Place, reason: str, detail: str) -> SkippedLayer:
    """What the report says of a place that is left as it is."""
    return SkippedLayer(
        path=place.path,
        layer_type=type(place.layer).__name__,
        parameters=count_own_parameters(place.layer),
        reason=reason,
        detail=detail,
    )
