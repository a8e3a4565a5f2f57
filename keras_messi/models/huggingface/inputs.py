"""Random inputs of models of transformers, on which these can be run."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_messi.calibration.statistics import vocabulary_weights

# Of texts, in tokens.
_LENGTH = 16


def random_inputs(model: Any, num_inputs: int) -> dict[str, np.ndarray]:
    """What a model takes: texts without padding, pictures, spectra.

    Tokens occur as often as Zipf's law has it, all else is normal.

    Args:
        model: A model of transformers.
        num_inputs: Size of the batch.

    Raises:
        AttributeError: Its config does not say how large some input is.
    """
    call = getattr(model, "forward", None) or model.call
    taken = {model.main_input_name, *inspect.signature(call).parameters}
    rng = np.random.default_rng(0)
    inputs = {
        name: draw(rng, model.config, num_inputs)
        for name, draw in _DRAWS.items()
        if name in taken
    }
    if "input_ids" in inputs:
        inputs["attention_mask"] = np.ones_like(inputs["input_ids"])
    return inputs


def vocabulary_size(config: Any) -> int | None:
    """Number of tokens of a model, None if it reads none."""
    for part in (config, getattr(config, "text_config", None)):
        size = getattr(part, "vocab_size", None)
        if size is not None:
            return size
    return None


def _ids(rng: np.random.Generator, config: Any, num_inputs: int) -> np.ndarray:
    n = vocabulary_size(config)
    if n is None:
        raise AttributeError(f"{type(config).__name__} has no vocab_size")
    p = vocabulary_weights(n) / n
    return rng.choice(n, size=(num_inputs, _LENGTH), p=p).astype("int32")


def _pixels(rng: np.random.Generator, config: Any, num_inputs: int) -> np.ndarray:
    config = getattr(config, "vision_config", config)
    size = config.image_size
    sides = (size, size) if isinstance(size, int) else tuple(size)
    return rng.normal(size=(num_inputs, config.num_channels, *sides)).astype("float32")


def _spectra(rng: np.random.Generator, config: Any, num_inputs: int) -> np.ndarray:
    # Two frames for a position, by the stride of the convolutions before.
    shape = num_inputs, config.num_mel_bins, 2 * config.max_source_positions
    return rng.normal(size=shape).astype("float32")


_DRAWS: dict[str, Callable[[np.random.Generator, Any, int], np.ndarray]] = {
    "input_ids": _ids,
    "decoder_input_ids": _ids,
    "pixel_values": _pixels,
    "input_features": _spectra,
}
