"""The rows to measure on. All are float32 and seeded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from kprojclust import make_subspaces
from measurements.processes import in_fresh_process

NOISE = 0.1
BLOCK = 250_000
# Energy of the noise over that of the union, which makes 5 subspaces of 53 % of the
# dimensions leave what they leave of a word table.
NOISE_SHARE = 0.2


class Data(NamedTuple):
    """A matrix that is made when it is needed."""

    name: str
    n: int
    d: int
    load: Callable[[], np.ndarray]


def scaled(n: int, scale: float) -> int:
    """A share of n rows, but not fewer than 100."""
    return max(round(scale * n), 100)


def word_table(scale: float) -> Data:
    """The word table of MiniLM; a share of it has fewer columns, too."""
    n, d = scaled(30_522, scale), round(384 * scale**0.5)
    return Data(f"MiniLM {n} x {d}", n, d, partial(_word_table, n, d))


def decaying_union(scale: float) -> Data:
    """A union of 5 clusters whose singular values decay, with noise."""
    n, d = scaled(30_522, scale), round(768 * scale**0.5)
    return Data(f"decaying union {n} x {d}", n, d, partial(_decaying_union, n, d))


def planted(n: int, d: int, k: int, j: int) -> Data:
    """Points near k subspaces of dimension j."""
    return Data(f"planted {n} x {d}", n, d, partial(_planted, n, d, k, j))


def planted_bases(d: int, k: int, j: int) -> list[np.ndarray]:
    """The subspaces of `planted_block`."""
    return make_subspaces(k, d, n_clusters=k, n_components=j, random_state=0)[2]


def planted_block(bases: list[np.ndarray], n: int, seed: int) -> np.ndarray:
    """n rows near the subspaces; blocks of all seeds share them."""
    rng = np.random.default_rng(seed)
    (j, d), labels = bases[0].shape, rng.integers(len(bases), size=n)
    rows = NOISE * rng.standard_normal((n, d), np.float32)
    for c, basis in enumerate(bases):
        own = labels == c
        coordinates = rng.standard_normal((np.sum(own), j), np.float32)
        rows[own] += coordinates @ basis.astype(np.float32)
    return rows


def block_sizes(n: int) -> Iterator[int]:
    """Sizes of the blocks that n rows are made of."""
    for start in range(0, n, BLOCK):
        yield min(BLOCK, n - start)


@contextmanager
def planted_file(n: int, d: int, k: int, j: int) -> Iterator[Path]:
    """Path of a temporary .npy file of n rows near k subspaces."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        save_planted(path, n, d, k, j)
        yield path


def save_planted(path: Path, n: int, d: int, k: int, j: int) -> None:
    """Write n rows near k subspaces as an .npy file, block by block."""
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
    bases, start = planted_bases(d, k, j), 0
    for seed, size in enumerate(block_sizes(n)):
        rows[start : start + size] = planted_block(bases, size, seed)
        start += size
    rows.flush()


@lru_cache(maxsize=1)
def _word_table(n, d):
    table = in_fresh_process(_read_word_table)
    return np.ascontiguousarray(table[:: len(table) // n][:n, :d])


def _read_word_table():
    from real_data import minilm_word_table  # imports Keras and all that comes with it

    return minilm_word_table()


@lru_cache(maxsize=1)
def _decaying_union(n, d, k=5):
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, d + 1) ** -0.5
    labels = rng.integers(k, size=n)
    noise = np.sqrt(NOISE_SHARE * np.mean(spectrum**2))
    X = noise * rng.standard_normal((n, d))
    for c in range(k):
        basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
        own = labels == c
        X[own] += (rng.standard_normal((np.sum(own), d)) * spectrum) @ basis.T
    return X.astype(np.float32)


@lru_cache(maxsize=1)
def _planted(n, d, k, j):
    X, _, _ = make_subspaces(
        n, d, n_clusters=k, n_components=j, noise=NOISE, random_state=0
    )
    return X.astype(np.float32)
