"""The word table of MiniLM as others make it smaller: what its embeddings lose.

    KPROJCLUST_DATA=folder python docs/experiments/word_table_rivals.py [--seeds 3]

Rounding to 4 bits with a scale a row or a block; 2 and 1 bits after a random rotation;
product quantization with and without a learned rotation, by faiss (pip install
faiss-cpu); and what Keras makes of an Embedding. The dev pairs of STS-B are scored once
for each row. The same command goes on where it was interrupted; word_table_bits.py
writes the rows beside ours.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from provenance import provenance
from rows import Rows
from sentence_similarity import Result, Runner, grouped
from word_table import embedding_model

HERE = Path(__file__)


@dataclass(frozen=True)
class Trial:
    """Who makes the table smaller."""

    rival: str
    seed: int = 0


class Smaller(NamedTuple):
    """A table, and the bytes that stand for it."""

    table: np.ndarray
    bytes: int


def int4(table: np.ndarray, seed: int, block_size: int) -> Smaller:
    """Integers from -7 to 7, and a float16 scale for each block of a row."""
    blocks = table.reshape(-1, block_size)
    peaks = np.abs(blocks).max(axis=1, keepdims=True)
    scales = (peaks / 7).astype(np.float16).astype(np.float32)
    integers = np.clip(np.rint(blocks / scales), -7, 7)
    size = table.size // 2 + 2 * len(blocks)
    return Smaller((integers * scales).reshape(table.shape), size)


def rotated(table: np.ndarray, seed: int, levels: tuple[float, ...]) -> Smaller:
    """Levels of normal numbers for centred rows, which are turned at random."""
    n, d = table.shape
    normal = np.random.default_rng(seed).normal(size=(d, d))
    turn = np.linalg.qr(normal)[0].astype(np.float32)
    centre = table.mean(axis=0)
    rows = (table - centre) @ turn
    sizes = np.sqrt(np.mean(rows**2, axis=1, keepdims=True)).astype(np.float16)
    all_levels = np.array([*(-x for x in reversed(levels)), *levels], np.float32)
    middles = (all_levels[1:] + all_levels[:-1]) / 2
    near = all_levels[np.searchsorted(middles, rows / sizes)]
    bits = len(all_levels).bit_length() - 1
    return Smaller((near * sizes) @ turn.T + centre, n * d * bits // 8 + 2 * n + 4 * d)


def product_codes(table: np.ndarray, seed: int, recipe: str) -> Smaller:
    """An index of faiss, of the size that it is written in."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(table.shape[1], recipe)
    quantizer = faiss.downcast_index(getattr(index, "index", index))
    quantizer.pq.cp.seed = 1234 + seed
    index.train(table)
    index.add(table)
    size = faiss.serialize_index(index).nbytes
    return Smaller(index.reconstruct_n(0, len(table)), size)


def by_keras(table: np.ndarray, seed: int, mode: str) -> Smaller:
    """An Embedding that Keras quantized."""
    layer = embedding_model(table).get_layer("words")
    layer.quantize(mode)
    store: dict[str, keras.Variable] = {}
    layer.save_own_variables(store)
    arrays = [keras.ops.convert_to_numpy(x) for x in store.values()]
    rows = layer(np.arange(len(table)))
    return Smaller(keras.ops.convert_to_numpy(rows), sum(x.nbytes for x in arrays))


RIVALS: dict[str, Callable[[np.ndarray, int], Smaller]] = {
    "Keras, int8": partial(by_keras, mode="int8"),
    "Keras, int4": partial(by_keras, mode="int4"),
    "int4, a scale a row": partial(int4, block_size=384),
    "int4, blocks of 128": partial(int4, block_size=128),
    "int4, blocks of 32": partial(int4, block_size=32),
    "turned at random, 2 bits": partial(rotated, levels=(0.45278, 1.51042)),
    "turned at random, signs": partial(rotated, levels=(0.79788,)),
    "faiss, OPQ 64 x 8": partial(product_codes, recipe="OPQ64,PQ64x8"),
    "faiss, PQ 48 x 8": partial(product_codes, recipe="PQ48x8"),
    "faiss, PQ 32 x 8": partial(product_codes, recipe="PQ32x8"),
}
# What depends on a seed.
RANDOM = [name for name in RIVALS if "random" in name or "faiss" in name]


def run(runner: Runner, trial: Trial) -> Result:
    """Make the table smaller, and score the model with it."""
    table = runner.table
    found = RIVALS[trial.rival](table, trial.seed)
    error = float(np.sum((found.table - table) ** 2) / np.sum(table**2))
    score = runner.score_with(runner.words, found.table, "dev")
    return Result(table.size, found.bytes, error, score)


def all_rows() -> Rows:
    """What was measured so far."""
    return Rows(HERE.with_suffix(".csv"), Trial, Result)


def named(rows: Rows) -> dict[str, list[Result]]:
    """Results by who made the table smaller."""
    groups = grouped(rows, list(rows.results), "rival")
    return {rival: found for (rival,), found in groups.items()}


def table_of(groups: dict[str, list[Result]], before: float, size: int) -> str:
    """A row for each way to make the table smaller, the largest first."""
    lines = ["| how | x fewer bytes | lost | seeds |", "|---|---|---|---|"]
    for how, found in sorted(groups.items(), key=lambda item: -item[1][0].bytes):
        lost = before - np.array([x.score for x in found])
        lines.append(
            f"| {how} | {size / np.mean([x.bytes for x in found]):.1f} "
            f"| {lost.mean():.2f} ± {lost.std():.2f} | {len(found)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    rows, runner = all_rows(), Runner()
    trials = [Trial(name) for name in RIVALS]
    trials += [Trial(name, seed) for seed in range(1, seeds) for name in RANDOM]
    rows.complete(trials, lambda trial: run(runner, trial))
    before = runner.score("dev")
    text = "\n\n".join(
        [
            "# The word table of MiniLM as others make it smaller",
            f"Spearman's correlation x 100 on the dev pairs of STS-B, {before:.2f} "
            "uncompressed; not fine-tuned. Differences below .3 are ties.",
            table_of(named(rows), before, runner.table.nbytes),
            provenance(f"python docs/experiments/{HERE.name} --seeds {seeds}"),
        ]
    )
    HERE.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
