"""Parts of rows of fixed size, on which all sums over rows are built.

Their size depends on the shape and the dtype of the rows only, so that rounding, and
with it every label, is the same wherever the rows come from and however many are read
at once.
"""

from sklearn import get_config

# Rows gathered for a product of second moments, a copy for each thread.
_TILE_BYTES = 2**24

# A product of rows and bases that is read again while it is in the cache.
_PRODUCT_BYTES = 2**21


def batches(n_samples, size):
    """Slices of so many rows each, but for the last one."""
    # scikit-learn's gen_batches checks its arguments, which takes longer than little
    # data itself.
    return [
        slice(start, min(start + size, n_samples))
        for start in range(0, n_samples, size)
    ]


def tile_rows(n_features, itemsize):
    """Number of rows in a tile: a power of two."""
    return _power_of_two(_TILE_BYTES / (n_features * itemsize))


def chunk_rows(n_directions, n_features, itemsize):
    """Rows to multiply at once by that many directions: a power of two, in a tile."""
    # With few directions it is the rows themselves that fill the cache.
    columns = max(n_directions, n_features // 4, 1)
    rows = _power_of_two(_PRODUCT_BYTES / (columns * itemsize))
    return min(rows, tile_rows(n_features, itemsize))


def block_rows(n_features, itemsize):
    """Rows to read at once from a file: whole tiles, a share of working_memory."""
    tile = tile_rows(n_features, itemsize)
    share = get_config()["working_memory"] * 2**20 / 16
    return tile * max(1, int(share / (tile * n_features * itemsize)))


def tiles(n_samples, n_features, itemsize):
    """Slices of the rows of each tile."""
    return batches(n_samples, tile_rows(n_features, itemsize))


def row_blocks(n_samples, row_bytes):
    """Slices of rows whose work space fits into scikit-learn's ``working_memory``."""
    size = max(1, int(get_config()["working_memory"] * 2**20) // max(1, row_bytes))
    return batches(n_samples, size)


def _power_of_two(size):
    return 2 ** max(0, int(size).bit_length() - 1)
