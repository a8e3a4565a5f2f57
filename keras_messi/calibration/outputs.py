"""How much the outputs of a model change when it is compressed."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_messi.calibration.batches import without_padding


def float_outputs(outputs: Any, mask: np.ndarray | None = None) -> list[np.ndarray]:
    """All floating-point arrays in what a model returns.

    Of a model of transformers without a head that is the mean of the last states, as an
    embedding of the text: errors that differ between its tokens matter less to it.

    Args:
        outputs: An array, or a structure of arrays with a row for each input.
        mask: Which positions of the inputs are no padding, bools of shape (batch,
            positions). Outputs at others are left out.
    """
    if isinstance(outputs, Mapping) and "last_hidden_state" in outputs:
        states = keras.ops.convert_to_numpy(outputs["last_hidden_state"])
        return [_mean_state(states.astype(np.float32), mask)]
    arrays = [keras.ops.convert_to_numpy(x) for x in _leaves(outputs)]
    return [
        without_padding(x, mask).astype(np.float32)
        for x in arrays
        if x.dtype.kind not in "iub"
    ]


def _leaves(outputs: Any) -> Iterator[Any]:
    """The arrays in a structure; mappings of transformers are of their own types."""
    if isinstance(outputs, Mapping | list | tuple):
        items = outputs.values() if isinstance(outputs, Mapping) else outputs
        for item in items:
            yield from _leaves(item)
    elif outputs is not None:
        yield outputs


def _mean_state(states: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Mean over the positions that are no padding, of shape (batch, width)."""
    if mask is None:
        return states.mean(axis=1)
    counted = states * mask[..., np.newaxis]
    return counted.sum(axis=1) / np.maximum(mask.sum(axis=1, keepdims=True), 1)


def output_change(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """Squared change of outputs over their spread about the mean of all inputs.

    Args:
        before: Arrays of one model, with a row for each input.
        after: Arrays of the same shapes of another.

    Returns:
        0 for equal outputs. About 1 for outputs that don't depend on the inputs, and
        2 for those of another model with outputs of the same spread.
    """
    pairs = list(zip(before, after, strict=True))
    change = sum(float(np.sum(np.square(a - b))) for a, b in pairs)
    spread = sum(float(np.sum(np.square(a - a.mean(axis=0)))) for a in before)
    if spread == 0:
        return 0.0 if change == 0 else float("inf")
    return change / spread
