"""Batches of inputs, from whatever holds data: arrays, datasets, loaders, iterables."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import itemgetter
from typing import Any

import keras
import numpy as np

# Arrays, or a list, tuple or dict of such: what a model is called on.
Inputs = Any

# Entries of a batch that say which positions are no padding.
_MASKS = ("attention_mask", "padding_mask")


def input_batches(
    data: Any, name: str = "calibration_data", batch_size: int = 64
) -> Iterator[Inputs]:
    """Batches of inputs: numpy arrays, or lists, tuples or dicts of such.

    Args:
        data: An array, or a list, tuple or dict of arrays with as many rows each, as
            `model.predict` takes them: cut into batches. Or something that gives
            batches: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch
            `DataLoader`, any iterable. Of a batch that is a tuple, such as `(x, y)`,
            and of a list from a `DataLoader`, only the first entry is taken.
        name: What to call the data in errors.
        batch_size: Rows of each batch of arrays.

    Raises:
        ValueError: The data is nothing of that kind, has no end, no batch or no rows;
            its arrays differ in the number of rows, or hold NaN or infinity.
    """
    batches = _of_arrays(data, name, batch_size)
    if batches is None:
        batches = _of_iterable(data, name)
    is_empty = True
    for batch in batches:
        _check_batch(batch, name)
        is_empty = False
        yield batch
    if is_empty:
        raise ValueError(
            f"`{name}` must hold at least one batch. Received: {_kind(data)} that is "
            "empty, or an iterator that is used up"
        )


def set_apart(data: Any, name: str = "calibration_data") -> tuple[Inputs, Any]:
    """The first batch, and the data without it, unless it is the only one.

    Args:
        data: As for `input_batches`.
        name: What to call the data in errors.
    """
    batches = input_batches(data, name)
    first = next(batches)
    second = next(batches, None)
    if second is None:
        return first, [(first,)]
    return first, ((batch,) for batch in chain([second], batches))


def _of_arrays(data: Any, name: str, size: int) -> Iterator[Inputs] | None:
    """Batches of rows of arrays; None if the data is no structure of arrays."""
    if not (_is_array(data) or isinstance(data, Mapping) or _are_arrays(data)):
        return None
    arrays = _numpy(data, name)
    num_rows = _num_rows(arrays, name)
    cuts = (slice(start, start + size) for start in range(0, max(num_rows, 1), size))
    return (keras.tree.map_structure(itemgetter(cut), arrays) for cut in cuts)


def _are_arrays(data: Any) -> bool:
    return isinstance(data, list | tuple) and all(map(_is_array, data)) and bool(data)


def _is_array(data: Any) -> bool:
    # Datasets of other libraries have a length, but no shape.
    return hasattr(data, "shape")


def _of_iterable(data: Any, name: str) -> Iterator[Inputs]:
    if isinstance(data, str | bytes) or not isinstance(
        data, Iterable | keras.utils.PyDataset
    ):
        raise ValueError(
            f"`{name}` must be an array, a list, tuple or dict of arrays, a dataset, "
            f"or an iterable of batches. Received: {type(data)}"
        )
    _check_end(data, name)
    modules = [base.__module__ for base in type(data).__mro__]
    is_loader = any(name.startswith("torch.utils.data") for name in modules)
    if isinstance(data, keras.utils.PyDataset):  # not iterable in all versions
        data = map(data.__getitem__, range(data.num_batches))
    for batch in data:
        has_targets = isinstance(batch, tuple) or (
            is_loader and isinstance(batch, list)
        )
        yield _numpy(batch[0] if has_targets and len(batch) else batch, name)


def _check_end(data: Any, name: str) -> None:
    is_endless = isinstance(data, keras.utils.PyDataset) and data.num_batches is None
    if hasattr(data, "cardinality"):
        is_endless = int(data.cardinality()) == -1  # tf.data.INFINITE_CARDINALITY
    if is_endless:
        raise ValueError(
            f"`{name}` must come to an end. Received: an infinite {_kind(data)}"
        )


def _numpy(batch: Any, name: str) -> Inputs:
    try:
        if isinstance(batch, Mapping):
            # Tokenizers give lists of ids, and in what is no dict.
            return {key: _array(value) for key, value in batch.items()}
        return keras.tree.map_structure(_array, batch)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be arrays, all rows of each as long: pad them. Received "
            f"what numpy refuses: {error}"
        ) from error


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # torch
        value = value.detach().cpu()
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)


def _check_batch(batch: Inputs, name: str) -> None:
    num_rows = _num_rows(batch, name)
    if not num_rows:
        raise ValueError(f"`{name}` must hold rows. Received: a batch of 0 rows")
    for array in keras.tree.flatten(batch):
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
            raise ValueError(
                f"`{name}` must be finite. Received: an array of shape {array.shape} "
                f"with {np.sum(~np.isfinite(array))} NaN or infinite values"
            )


def _num_rows(batch: Inputs, name: str) -> int:
    shapes = [array.shape for array in keras.tree.flatten(batch)]
    if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"`{name}` must be arrays with as many rows each. Received: arrays of "
            f"shapes {shapes}"
        )
    return shapes[0][0]


def _kind(data: Any) -> str:
    return type(data).__name__


def padding_mask(batch: Inputs) -> np.ndarray | None:
    """Which positions of a batch are no padding, bools of shape (batch, positions)."""
    if isinstance(batch, dict):
        for name in _MASKS:
            if name in batch and batch[name].ndim == 2:
                return batch[name] != 0
    return None


def without_padding(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Values of shape (batch, positions, ...) where a mask is set, others as given."""
    if mask is None or values.shape[:2] not in (mask.shape, (1, mask.shape[1])):
        return values
    # Ids of positions may be given once for the whole batch.
    return np.broadcast_to(values, (*mask.shape, *values.shape[2:]))[mask]
