"""A file that was exported, run once beside its model."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_messi.models.adapter import family_of

# Greatest distance of an output of a file from that of the model, over its size.
SAME_ARITHMETIC = 1e-5
QUANTIZED_ACTIVATIONS = 0.25

_NUM_INPUTS = 2


class Input(NamedTuple):
    """An input of a file.

    Attributes:
        name: What the file calls it.
        shape: Sizes that are fixed; what else is in it stands for any size.
        dtype: Name of its type in numpy.
    """

    name: str
    shape: Sequence[Any]
    dtype: str


# Gives the outputs of a file, in its order, for inputs by name.
Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def check_outputs(
    model: Any, twin: Any, inputs: Sequence[Input], run: Run, bound: float
) -> None:
    """Run a file on random inputs, and compare it with the model.

    Args:
        model: The model.
        twin: Its float twin, whose tables say which ids there are.
        inputs: Inputs of the file.
        run: Runs the file.
        bound: Greatest distance of an output, over its size.

    Raises:
        ValueError: An output differs by more.
    """
    try:
        batch, outputs = _computed(model, twin, inputs)
    except Exception as error:  # the code of any model may refuse what is random
        warnings.warn(
            "The file was not compared with the model, which can't be run on random "
            f"inputs: {error}",
            stacklevel=4,
        )
        return
    for name, got, want in _pairs(run(batch), outputs):
        distance = _distance(got, want)
        if not distance <= bound:
            raise ValueError(
                "The file must compute what the model does. Its output "
                f"'{name}' differs by {distance:.2g} of its size, more than {bound}."
            )


def _computed(
    model: Any, twin: Any, inputs: Sequence[Input]
) -> tuple[dict[str, np.ndarray], Any]:
    """Inputs of a file by name, and what the model returns for them."""
    family = family_of(model)
    drawn = family.random_inputs(twin, _NUM_INPUTS)
    if isinstance(drawn, Mapping) and {x.name for x in inputs} >= set(drawn):
        missing = np.zeros_like(next(iter(drawn.values())))
        arrays = {x.name: drawn.get(x.name, missing) for x in inputs}
        arrays = {x.name: _fitted(arrays[x.name], x) for x in inputs}
        given: Any = arrays
    else:
        flat = keras.tree.flatten(drawn)
        fitted = [_fitted(a, x) for a, x in zip(flat, inputs, strict=True)]
        arrays = {x.name: a for x, a in zip(inputs, fitted, strict=True)}
        given = keras.tree.pack_sequence_as(drawn, fitted)
    with family.observe(model, {}) as run:
        return arrays, run(given)


def _fitted(array: np.ndarray, taken: Input) -> np.ndarray:
    """An array of the type and of the sizes that an input of a file must have."""
    for axis, size in enumerate(taken.shape):
        if isinstance(size, int) and size > 0:
            places = np.arange(size) % array.shape[axis]
            array = np.take(array, places, axis=axis)
    return array.astype(taken.dtype)


def _pairs(
    got: dict[str, np.ndarray], want: Any
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name and values of each output of a file that is of floats."""
    if isinstance(want, Mapping) and set(want) >= set(got):
        named = [(name, array, want[name]) for name, array in got.items()]
    else:
        flat = keras.tree.flatten(want)
        named = [(*x, y) for x, y in zip(got.items(), flat, strict=True)]
    return [
        (name, array, keras.ops.convert_to_numpy(tensor))
        for name, array, tensor in named
        if array.dtype.kind == "f"
    ]


def _distance(got: np.ndarray, want: np.ndarray) -> float:
    """Norm of the difference over that of what was wanted, or infinity."""
    if got.shape != want.shape or not np.array_equal(np.isnan(got), np.isnan(want)):
        return float("inf")
    got, want = np.nan_to_num(got), np.nan_to_num(want)
    size = np.linalg.norm(want)
    return float(np.linalg.norm(got - want) / max(size, np.finfo(np.float32).tiny))
