"""The form of the matrix of a layer, ours or one that Keras quantized."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import keras
import numpy as np

from keras_messi.exporting.forms import (
    Codes,
    Factors,
    Floats,
    Form,
    Integers,
    Levels,
    Sum,
    Turned,
    transposed,
)
from keras_messi.layers.dense import StoredDense
from keras_messi.layers.embedding import StoredEmbedding
from keras_messi.layers.kinds import has_matrix, is_table, plain_type
from keras_messi.layers.numbers.codes import book_of_block
from keras_messi.layers.numbers.integers import BITS
from keras_messi.layers.numbers.levels import levels_of, random_rotation
from keras_messi.layers.storage.base import Storage
from keras_messi.layers.storage.codewords.codebooks import Codebooks
from keras_messi.layers.storage.codewords.coded_factors import CodedFactors
from keras_messi.layers.storage.factors import Factors as FactorStorage
from keras_messi.layers.storage.few_bits.entropy_coded import EntropyCoded
from keras_messi.layers.storage.few_bits.entropy_coded_factors import (
    EntropyCodedFactors,
)
from keras_messi.layers.storage.few_bits.rounded import Rounded
from keras_messi.layers.storage.few_bits.rounded_factors import RoundedFactors
from keras_messi.layers.storage.lora import Lora
from keras_messi.layers.storage.transposed import Transposed

# Where the code of our layers is: a subclass may compute something else.
_OURS = "keras_messi.layers."


def form_of_layer(layer: keras.Layer) -> Form | None:
    """The form of the matrix of a layer, None of one that stores plain numbers.

    The matrix has the shape of the kernel of a Dense layer, or of the table of an
    Embedding.
    """
    if not layer.built:
        return None
    if isinstance(layer, StoredDense | StoredEmbedding):
        ours = plain_type(layer).__module__.startswith(_OURS)
        return form_of_storage(layer.storage) if ours else None
    if has_matrix(layer) and layer.quantization_mode in BITS:
        return _of_quantized(layer)
    return None


def _of_quantized(layer: Any) -> Form | None:
    """That of a layer of Keras, in which all but blocks are divided by their scales."""
    if layer.lora_enabled or not getattr(layer, "tie_weights", True):
        return None
    table, bits = is_table(layer), BITS[layer.quantization_mode]
    integers = _array(layer.embeddings if table else layer.kernel).astype(np.int8)
    scales = _array(layer.embeddings_scale if table else layer.kernel_scale)
    axis = 1 if table else 0
    if scales.ndim == 2:
        zeros = _array(layer.embeddings_zero if table else layer.kernel_zero)
        block_size = int(np.sum(_array(layer.g_idx) == 0))
        return Integers(integers, bits, scales, axis, block_size, zeros)
    scales = np.expand_dims(np.float32(1) / scales, axis)
    return Integers(integers, bits, scales, axis, integers.shape[axis])


@singledispatch
def form_of_storage(storage: Storage) -> Form:
    """The form of what a storage stores; floats of one that is not known here."""
    return Floats(_array(storage.matrix("float32")))


@form_of_storage.register
def _(storage: Rounded) -> Form:
    codes, scales, axis = _array(storage.codes), _array(storage.scales), 1
    if not storage.by_rows:
        codes, scales, axis = codes.T, scales.T, 0
    width = codes.shape[axis]
    block_size = min(storage.block_size or width, width)
    form = _of_levels(codes, storage, scales, axis, block_size)
    if storage.rotation is None:
        return form
    rotation = random_rotation(width, storage.rotation)
    return Turned(form, rotation, _array(storage.centre), axis)


def _of_levels(
    codes: np.ndarray, storage: Any, scales: np.ndarray, axis: int, block_size: int
) -> Form:
    """Codes of the levels of a storage, with scales in blocks along an axis."""
    scales = scales.astype(np.float32)
    if storage.levels == "uniform":
        half = 2 ** (storage.bits - 1)
        integers = (codes.astype(np.int16) - half).astype(np.int8)
        return Integers(integers, storage.bits, scales / half, axis, block_size)
    levels = levels_of(storage.bits, storage.levels)
    return Levels(codes, levels, scales, axis, block_size)


@form_of_storage.register
def _(storage: Codebooks) -> Form:
    longest = storage.codes.shape[1]
    return _of_codes(storage, storage.codes, longest, 1 if storage.by_rows else 0)


def _of_codes(storage: Any, codes: Any, longest: int, axis: int) -> Codes:
    books = book_of_block(codes.shape[1], storage.num_codebooks, longest)
    return Codes(_array(codes), _array(storage.codebooks), books, axis)


@form_of_storage.register
def _(storage: FactorStorage) -> Form:
    scales = storage.basis_scales_in("float32")
    bases = _of_numbers(
        _array(storage.read_bases("float32")),
        BITS.get(storage.quantization or "", 0),
        None if scales is None else _array(scales)[:, np.newaxis],
    )
    return Factors(_coordinates(storage), bases, storage.assignments)


@form_of_storage.register
def _(storage: Transposed) -> Form:
    form = form_of_storage(storage.plain)
    if not isinstance(form, Factors) or len(form.coordinates) > 1:
        return Floats(_array(storage.matrix("float32")))
    one_cluster = np.zeros(form.shape[1], np.uint8)
    left, right = transposed(form.bases), transposed(form.coordinates[0])
    return Factors([left], right, one_cluster)


@singledispatch
def _coordinates(storage: FactorStorage) -> list[Form]:
    """The k tables of coordinates."""
    parts = _by_cluster(storage.row_scales_in("float32"), storage.cluster_sizes)
    read, bits = storage.reader("float32"), BITS.get(storage.quantization or "", 0)
    return [
        _of_numbers(_array(read(table, c)), bits, own)
        for c, (table, own) in enumerate(zip(storage.coordinates, parts, strict=True))
    ]


@_coordinates.register
def _(storage: RoundedFactors) -> list[Form]:
    parts = _by_cluster(storage.row_scales_in("float32"), storage.cluster_sizes)
    return [
        _of_levels(_array(codes), storage, own, 1, codes.shape[1])
        for codes, own in zip(storage.coordinates, parts, strict=True)
    ]


@_coordinates.register
def _(storage: EntropyCodedFactors) -> list[Form]:
    parts = _by_cluster(storage.row_scales_in("float32"), storage.cluster_sizes)
    tables = zip(storage.coordinates, parts, strict=True)
    return [_of_wide_integers(_array(table), own) for table, own in tables]


@_coordinates.register
def _(storage: CodedFactors) -> list[Form]:
    longest = max(storage.ranks) // storage.block_size
    return [_of_codes(storage, codes, longest, 1) for codes in storage.coordinates]


def _by_cluster(scales: Any, sizes: Sequence[int]) -> list[Any]:
    """Scales of the rows of each cluster, `(n_c, 1)`, if there are any."""
    if scales is None:
        return [None] * len(sizes)
    return np.split(_array(scales)[:, np.newaxis], np.cumsum(sizes)[:-1])


def _of_numbers(numbers: np.ndarray, bits: int, scales: np.ndarray | None) -> Form:
    """Numbers of a table, with a scale for each row if there are scales."""
    if scales is None:
        return Floats(numbers)
    return Integers(numbers.astype(np.int8), bits, scales, 1, numbers.shape[1])


@form_of_storage.register
def _(storage: EntropyCoded) -> Form:
    scales = _array(storage.row_scales)[:, np.newaxis]
    return _of_wide_integers(_array(storage.integers), scales)


def _of_wide_integers(integers: np.ndarray, scales: np.ndarray) -> Form:
    """Integers of any size with a scale a row, in as few bits as all of them take.

    Those of more than 8 bits are a sum: a few of them are large.
    """
    high = (integers.astype(np.int32) + 128) // 256
    low = integers - 256 * high
    parts = [_of_numbers(low, _bits_for(low), scales)]
    if high.any():
        large = np.float32(256) * scales
        parts.append(_of_numbers(high, _bits_for(high), large))
    return parts[0] if len(parts) == 1 else Sum(parts)


def _bits_for(integers: np.ndarray) -> int:
    """4 if that is enough, which files hold two a byte of, or 8."""
    return 4 if integers.min() >= -8 and integers.max() <= 7 else 8


@form_of_storage.register
def _(storage: Lora) -> Form:
    a = _array(storage.a)
    b = _array(storage.b) * np.float32(storage.lora_alpha / storage.lora_rank)
    product = Factors([Floats(a)], Floats(b), np.zeros(len(a), np.uint8))
    return Sum([form_of_storage(storage.plain), product])


def _array(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)
