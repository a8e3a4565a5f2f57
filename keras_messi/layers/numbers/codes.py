"""Codes: for each block of a row, the index of its codeword in a codebook.

A codeword is a vector of `block_size` numbers, and a codebook a table of them. A matrix
whose rows are cut into blocks has one codebook for all blocks, one for each, or one for
each of a few groups of consecutive blocks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_messi.layers._backend import take_rows

Tensor = Any

# A code takes two bytes at most.
MAX_CODEWORDS = 65_536


def bits_of(num_codewords: int) -> int:
    """Bits that a code takes on disk."""
    return max(1, (num_codewords - 1).bit_length())


def pack_codes(codes: np.ndarray, num_codewords: int) -> np.ndarray:
    """Codes of any shape one after another, each in as few bits as tell them apart.

    Returns:
        uint8 of shape `(ceil(codes.size * bits / 8),)`.
    """
    in_bytes = np.ascontiguousarray(codes, ">u2").reshape(-1, 1).view(np.uint8)
    return np.packbits(np.unpackbits(in_bytes, axis=1)[:, -bits_of(num_codewords) :])


def unpack_codes(
    packed: np.ndarray, shape: Sequence[int], num_codewords: int
) -> np.ndarray:
    """The codes that `pack_codes` packed, in the type of `codes_dtype`.

    Raises:
        ValueError: There are not as many bytes as the shape takes.
    """
    bits, size = bits_of(num_codewords), int(np.prod(shape))
    if packed.shape != (-(-size * bits // 8),):
        raise ValueError(
            f"`packed` must hold {size} codes of {bits} bits. "
            f"Received: packed.shape={packed.shape}"
        )
    in_bits = np.unpackbits(packed, count=size * bits).reshape(size, bits)
    in_bytes = np.packbits(np.pad(in_bits, ((0, 0), (16 - bits, 0))), axis=1)
    return in_bytes.view(">u2").reshape(shape).astype(codes_dtype(num_codewords))


def codes_dtype(num_codewords: int) -> str:
    """Type of codes in memory."""
    # torch can do next to nothing with uint16.
    return "uint8" if num_codewords <= 256 else "int32"


def distinct_codes(n: int, num_blocks: int, num_codewords: int) -> np.ndarray:
    """Codes of shape (n, num_blocks) of which no two rows are alike, if they can be."""
    rest, columns = np.arange(n), []
    for _ in range(num_blocks):
        columns.append(rest % num_codewords)
        rest = rest // num_codewords
    return np.stack(columns, axis=1)


def count_uses(
    codes: np.ndarray,
    num_codebooks: int,
    num_codewords: int,
    longest: int | None = None,
) -> np.ndarray:
    """How many blocks of all rows are quantized to each codeword.

    Of codes `(n, num_blocks)`: int32 of shape `(num_codebooks, num_codewords)`. The
    codebooks are for `longest` blocks, where these rows have fewer.
    """
    books = book_of_block(codes.shape[1], num_codebooks, longest)
    places = (codes + books * num_codewords).ravel()
    size = num_codebooks * num_codewords
    counts = np.bincount(places, minlength=size).astype(np.int32)
    return counts.reshape(num_codebooks, num_codewords)


def averaged_over_uses(codebooks: Tensor, uses: Tensor) -> Tensor:
    """The codebooks, with the gradient of each codeword divided by its uses.

    So that a codeword is moved by the mean gradient of its blocks, and not the sum.

    Args:
        codebooks: Tensor of shape `(num_codebooks, num_codewords, block_size)`.
        uses: Numbers of at least 1, of shape `(num_codebooks, num_codewords)`.
    """
    fixed = ops.stop_gradient(codebooks)
    uses = ops.expand_dims(ops.cast(uses, codebooks.dtype), -1)
    return fixed + (codebooks - fixed) / uses


def codewords_at(
    codebooks: Tensor,
    codes: Tensor,
    codebooks_shape: Sequence[int],
    num_blocks: int,
    longest: int | None = None,
) -> Tensor:
    """Decode rows of codes: their codewords, one after another.

    Args:
        codebooks: Tensor of shape `codebooks_shape`.
        codes: Integers of shape `(..., num_blocks)`.
        codebooks_shape: `(num_codebooks, num_codewords, block_size)`. Where torch
            follows a call for ONNX, the shapes of tensors are no integers.
        num_blocks: Blocks of these rows.
        longest: Blocks that the codebooks are for, where these rows have fewer.

    Returns:
        Tensor of shape `(..., num_blocks * block_size)`.
    """
    num_codebooks, num_codewords, block_size = codebooks_shape
    table = ops.reshape(codebooks, (num_codebooks * num_codewords, block_size))
    books = book_of_block(num_blocks, num_codebooks, longest)
    places = rows_of_codes(codes, books, num_codewords)
    width = num_blocks * block_size
    return ops.reshape(take_rows(table, places), (*ops.shape(codes)[:-1], width))


def rows_of_codes(codes: Tensor, books: np.ndarray, num_codewords: int) -> Tensor:
    """Where the codewords of codes are, with all codebooks one below the other.

    Codes have the shape `(..., num_blocks)`, and the codebooks of blocks `books`
    `(num_blocks,)`.
    """
    starts = ops.convert_to_tensor(books * num_codewords, "int32")
    return ops.cast(codes, "int32") + starts


def book_of_block(
    num_blocks: int, num_codebooks: int, longest: int | None
) -> np.ndarray:
    """Codebook of each of the first blocks of a row, of shape (num_blocks,)."""
    return np.arange(num_blocks) * num_codebooks // (longest or num_blocks)
