"""What a model is made of, and what a compression would make of it."""

from typing import Any

import keras

from keras_messi.allocation.planning import reasons_to_skip
from keras_messi.configs import MessiConfig
from keras_messi.exporting.forecast import forecast_sizes
from keras_messi.layers.kinds import has_matrix, matrix_shape, read_matrix
from keras_messi.layers.sizes import count_own_parameters, stored_bytes
from keras_messi.methods.subspaces.messi import stored_size
from keras_messi.models.adapter import family_of
from keras_messi.models.keras.surgery import NamedLayer
from keras_messi.report import format_table


def describe_layers(model: Any, config: MessiConfig) -> str:
    """Table of the layers with weights: matrix, parameters, bytes and their share.

    The last columns say what `compress` would make of each layer, without doing it:
    the mean rank, and bytes that it does not exceed. Below stand the bytes that
    `export` would write, now and then.

    Args:
        model: A model that `compress` takes.
        config: What to do with each layer.
    """
    family = family_of(model)
    total = family.stored_bytes(model)
    goal = f"rank={config.rank}" if config.rate is None else f"rate={config.rate:g}"
    heading = ["layer", "type", "matrix", "parameters", "bytes", "share"]
    rows = [[*heading, f"{goal}: rank", "bytes", "smaller"]]
    saved, layers = 0, family.find_layers(model)
    reasons = reasons_to_skip(layers, config, None)
    for named in layers:
        size = stored_bytes([named.layer])
        if not size:
            continue
        then, cells = _forecast(named, size, config, reasons.get(named.path))
        saved += size - then
        rows.append([*_description(named, size, total), *cells])
    parameters = f"{family.count_parameters(model):,}"
    left = total - saved
    ends = ["", f"{left:,}", f"{total / left:.2f} x"]
    rows.append(["all", "", "", parameters, f"{total:,}", "100.0 %", *ends])
    for format, now in forecast_sizes(model).items():
        then = now - saved
        cells = ["", "", "", f"{now:,}", "", "", f"{then:,}", f"{now / then:.2f} x"]
        rows.append([f"exported to {format}", *cells])
    return format_table(rows)


def _description(named: NamedLayer, size: int, total: int) -> list[str]:
    layer, matrix = named.layer, "-"
    if has_matrix(layer):
        matrix = "{} x {}".format(*matrix_shape(layer))
    return [
        named.path,
        type(layer).__name__,
        matrix,
        f"{count_own_parameters(layer):,}",
        f"{size:,}",
        f"{100 * size / total:.1f} %",
    ]


def _forecast(
    named: NamedLayer, size: int, config: MessiConfig, reason: tuple[str, str] | None
) -> tuple[int, list[str]]:
    """Bytes of a layer after compression, and what the table says of it."""
    layer: keras.Layer = named.layer
    if not has_matrix(layer):
        return size, ["-", "-", ""]
    if named.obstacle:
        return size, ["-", "-", named.obstacle]
    if reason:
        return size, ["-", "-", reason[0]]
    matrix = read_matrix(layer)
    n, d = matrix.shape
    then = size - matrix.nbytes + stored_size(n, d, config, matrix.itemsize)
    return then, [f"{config.rank_for(n, d)}", f"{then:,}", f"{size / then:.2f} x"]
