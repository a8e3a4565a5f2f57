"""What a model is made of."""

import keras

from keras_messi.compressors import has_matrix, matrix_shape
from keras_messi.report import (
    count_own_parameters,
    count_parameters,
    format_table,
    stored_bytes,
)
from keras_messi.surgery import find_layers


def describe_layers(model: keras.Model) -> str:
    """Table of the layers with weights: matrix, parameters, bytes and their share.

    The layers with a matrix are those that `compress` can replace.
    """
    places = find_layers(model)
    total = stored_bytes([place.layer for place in places])
    rows = [["layer", "type", "matrix", "parameters", "bytes", "share"]]
    for path, layer, obstacle in places:
        size = stored_bytes([layer])
        if not size:
            continue
        matrix = "-"
        if has_matrix(layer) and not obstacle:
            matrix = "{} x {}".format(*matrix_shape(layer))
        rows.append(
            [
                path,
                type(layer).__name__,
                matrix,
                f"{count_own_parameters(layer):,}",
                f"{size:,}",
                f"{100 * size / total:.1f} %",
            ]
        )
    rows.append(
        ["all", "", "", f"{count_parameters(model):,}", f"{total:,}", "100.0 %"]
    )
    return format_table(rows)
