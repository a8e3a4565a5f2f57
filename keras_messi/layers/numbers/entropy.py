"""Entropy coding of integers: a value takes the fewer bits, the more often it occurs.

Rows and columns of an array are put into classes by the size of their integers, and
each sum of a row's and a column's class has its own frequencies of values. Everything
that a decoder needs but the shape stands in one string of bits, written by asymmetric
numeral systems.

Reference:
    - [Duda, 2013](https://arxiv.org/abs/1311.2540)
    - [Bamler, 2022](https://arxiv.org/abs/2201.01741), for the coder.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from constriction import stream

AnsCoder = stream.stack.AnsCoder

# Of integers that may have frequencies. Others are listed one by one.
LARGEST = 127
# Classes of a row or column, two for each factor of 2 in the size of its integers.
_MAX_CLASSES = 16
# Frequencies of values are stored as integers below this, so that their sum is exact.
_PRECISION = 1 << 12
# About what an integer without a frequency takes, and frequencies of one size more.
_BITS_OF_ONE = 40
_BITS_OF_A_SIZE = 200
# About what the class of a row or column takes.
_BITS_OF_A_CLASS = 2


def encode(integers: np.ndarray) -> np.ndarray:
    """Integers as a string of bits.

    Args:
        integers: int8 or int16 array of shape `(n, d)`.

    Returns:
        uint8 of shape `(bytes,)`, of which `decode` makes the same array again.
    """
    n, d = integers.shape
    is_far = np.abs(integers.astype(np.int32)) > _bound(integers)
    near = np.where(is_far, 0, integers).astype(np.int8)
    alike = np.zeros(n, np.int32), np.zeros(d, np.int32)
    coders = [_write(near, *alike)]
    if near.any():
        coders.append(_write(near, *_classes(near)))
    coder = min(coders, key=lambda one: one.num_bits())
    _write_far(coder, integers, *np.nonzero(is_far))
    return coder.get_compressed().view(np.uint8)


def decode(coded: Any, shape: tuple[int, int], dtype: str) -> np.ndarray:
    """The array of a shape and dtype that `encode` wrote.

    Raises:
        ValueError: The bytes are none that `encode` wrote for such a shape.
    """
    coded = np.asarray(coded)
    if coded.dtype != np.uint8 or coded.ndim != 1 or len(coded) % 4:
        raise ValueError(
            "`coded` must be bytes of whole 32-bit words. "
            f"Received: {coded.dtype} of shape {coded.shape}"
        )
    coder = AnsCoder(np.frombuffer(coded.tobytes(), np.uint32))
    rows, columns, far = _read_far(coder, *shape)
    integers = _read(coder, *shape).astype(dtype)
    if not coder.is_empty():
        raise ValueError(
            f"`coded` must hold integers of shape {shape}. Received: bytes of more"
        )
    integers[rows, columns] = far
    return integers


def _bound(integers: np.ndarray) -> int:
    """Up to which size integers have frequencies, so that few bits are taken."""
    sizes = np.minimum(np.abs(integers.astype(np.int32)), LARGEST + 1)
    beyond = integers.size - np.cumsum(np.bincount(sizes.ravel(), minlength=129))
    return int(np.argmin(_BITS_OF_ONE * beyond[:-1] + _BITS_OF_A_SIZE * np.arange(128)))


def coded_bits(integers: np.ndarray) -> float:
    """About how many bits `encode` takes for an array of shape (n, d).

    What is beyond -127 and 127 counts as that.
    """
    integers = np.clip(integers, -LARGEST, LARGEST)
    alike = np.zeros(integers.shape, np.int32)
    rows, columns = _classes(integers)
    for_classes = _BITS_OF_A_CLASS * sum(integers.shape)
    return min(
        _bits_given(integers, alike),
        _bits_given(integers, rows[:, np.newaxis] + columns) + for_classes,
    )


def _bits_given(integers: np.ndarray, contexts: np.ndarray) -> float:
    """Entropy of integers given their contexts, and bits for tables of frequencies."""
    places = contexts * 256 + integers.astype(np.int32) + 128
    counts = np.bincount(places.ravel(), minlength=256 * 2 * _MAX_CLASSES)
    counts = counts.reshape(-1, 256)
    of_context = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    seen = counts > 0
    entropy = np.sum(counts[seen] * np.log2(of_context[seen] / counts[seen]))
    return float(entropy + np.log2(_PRECISION) * np.sum(seen))


def _classes(integers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes of rows and of columns, int32 of shapes (n,) and (d,)."""
    squares = np.square(integers, dtype=np.float32)
    return _class_of(squares.mean(axis=1)), _class_of(squares.mean(axis=0))


def _class_of(squares: np.ndarray) -> np.ndarray:
    least = max(float(squares.max()) / 2.0 ** (_MAX_CLASSES - 1), 1e-12)
    return np.round(np.log2(np.maximum(squares / least, 1))).astype(np.int32)


# A coder is a stack: what is to be read first is written last.


def _write(integers: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Any:
    """A coder of integers from -127 to 127, with given classes."""
    coder = AnsCoder()
    tables = []
    for symbols in reversed(list(_contexts(integers, rows, columns))):
        lowest, frequencies = _frequencies(symbols)
        if len(frequencies) > 1:
            coder.encode_reverse(symbols - lowest, _categorical(frequencies))
        tables.append((lowest, frequencies))
    for lowest, frequencies in tables:
        _push(coder, frequencies - 1, _PRECISION)
        _push(coder, np.array([lowest + 128, len(frequencies) - 1]), 256)
    for classes in (columns, rows):
        shares = _frequencies(np.append(classes, [0, _MAX_CLASSES - 1]))[1]
        coder.encode_reverse(classes, _categorical(shares))
        _push(coder, shares - 1, _PRECISION)
    return coder


def _write_far(
    coder: Any, integers: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> None:
    """Write places and values of the integers that have no frequencies."""
    _push(coder, integers[rows, columns].astype(np.int32) + 32768, 1 << 16)
    _push(coder, columns, integers.shape[1])
    _push(coder, rows, integers.shape[0])
    _push(coder, np.array([len(rows)]), 1 << 24)


def _read_far(coder: Any, n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = int(_pop(coder, 1 << 24, 1)[0])
    rows, columns = _pop(coder, n, count), _pop(coder, d, count)
    return rows, columns, _pop(coder, 1 << 16, count) - 32768


def _read(coder: Any, n: int, d: int) -> np.ndarray:
    rows, columns = (_read_classes(coder, size) for size in (n, d))
    counts = np.bincount((rows[:, np.newaxis] + columns).ravel())
    used = np.flatnonzero(counts)
    tables = {}
    for context in used:
        lowest, more = _pop(coder, 256, 2)
        tables[context] = lowest - 128, _pop(coder, _PRECISION, int(more) + 1) + 1
    integers = np.empty((n, d), np.int8)
    for context in used:
        lowest, frequencies = tables[context]
        symbols = np.zeros(counts[context], np.int32)
        if len(frequencies) > 1:
            symbols = coder.decode(_categorical(frequencies), len(symbols))
        integers[rows[:, np.newaxis] + columns == context] = symbols + lowest
    return integers


def _read_classes(coder: Any, n: int) -> np.ndarray:
    shares = _pop(coder, _PRECISION, _MAX_CLASSES) + 1
    return coder.decode(_categorical(shares), n)


def _contexts(
    integers: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> Iterator[np.ndarray]:
    """The integers of each context that has some, int32, in rising order."""
    contexts = rows[:, np.newaxis] + columns
    for context in np.flatnonzero(np.bincount(contexts.ravel())):
        yield integers[contexts == context].astype(np.int32)


def _frequencies(symbols: np.ndarray) -> tuple[int, np.ndarray]:
    """The least symbol, and the frequencies of it and those that follow, int32."""
    lowest = int(symbols.min())
    counts = np.bincount(symbols - lowest)
    frequencies = np.round(counts / counts.max() * _PRECISION).astype(np.int32)
    return lowest, np.clip(frequencies, 1, _PRECISION)


def _categorical(frequencies: np.ndarray) -> Any:
    shares = frequencies.astype(np.float32) / np.float32(frequencies.sum())
    return stream.model.Categorical(shares, perfect=False)


def _push(coder: Any, numbers: np.ndarray, size: int) -> None:
    """Write numbers from 0 up to below a size, all in as many bits."""
    if size == 1:
        return
    coder.encode_reverse(numbers.astype(np.int32), stream.model.Uniform(size))


def _pop(coder: Any, size: int, count: int) -> np.ndarray:
    if size == 1:
        return np.zeros(count, np.int32)
    return coder.decode(stream.model.Uniform(size), count)
