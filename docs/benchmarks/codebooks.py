"""Codebooks for real weights: three starts, three ways with empty clusters.

    KPROJCLUST_DATA=folder python docs/benchmarks/codebooks.py fits [--matrices ...]
    KPROJCLUST_DATA=folder python docs/benchmarks/codebooks.py starts
    KPROJCLUST_DATA=folder python docs/benchmarks/codebooks.py times
    KPROJCLUST_DATA=folder python docs/benchmarks/codebooks.py networks [--matrices ...]

"fits" clusters 29,400 blocks of each matrix with every start and every policy; "starts"
counts the empty clusters of two starts on all blocks of each; "times" sets
scikit-learn's KMeans beside ours, and wants the machine alone; "networks" fits each
matrix again and looks at the network, which for LeNet learns an epoch more. Rows are
written to codebooks_*.csv as they come; a second call goes on where the first one
stopped. Each call writes codebooks.md from all rows.
"""

import argparse
import sys
import time
import warnings
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning

from kprojclust import PartitioningGuidedKMeans
from kprojclust._kmeans.partition import partition_centers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "experiments"))
import codebooks_lenet  # noqa: E402
import codebooks_minilm  # noqa: E402
import codebooks_rows as cb  # noqa: E402
from codebooks_page import write_page  # noqa: E402
from provenance import provenance  # noqa: E402
from real_data import data_folder, minilm_weights  # noqa: E402
from rows import Rows  # noqa: E402


@cache
def read(name: str) -> np.ndarray:
    """A matrix with a row for each unit or token."""
    if name == "lenet":
        with np.load(data_folder() / "networks" / "lenet300100_dense.npz") as weights:
            return weights["fc1.weight"].astype(np.float32)
    return minilm_weights()[f"{name}.weight"].astype(np.float32)


def blocks_of(matrix: str) -> np.ndarray:
    """All blocks of a matrix, float32 of shape (n_blocks, block_size)."""
    weights, block_size = (
        cb.MATRICES[matrix].weights,
        cb.MATRICES[matrix].block_size,
    )
    return read(weights).reshape(-1, block_size)


@cache
def sample(matrix: str, dtype: str) -> np.ndarray:
    """Blocks of a matrix, rounded to a dtype; numbers to compute with are float32."""
    blocks = blocks_of(matrix)
    if len(blocks) > cb.NUM_BLOCKS:
        rng = np.random.default_rng(0)
        blocks = blocks[rng.choice(len(blocks), cb.NUM_BLOCKS, replace=False)]
    return blocks.astype(dtype).astype(np.float32)


@cache
def plus_plus(matrix: str, dtype: str, n_codewords: int, seed: int):
    """A start that three policies share, and the seconds it took."""
    began = time.perf_counter()
    X = sample(matrix, dtype)
    centers, _ = kmeans_plusplus(X, n_codewords, random_state=seed)
    return centers, time.perf_counter() - began


def fitted(trial: cb.Trial) -> tuple[PartitioningGuidedKMeans, float]:
    """A codebook, and the seconds it took to find."""
    X = sample(trial.matrix, trial.dtype)
    init, before = trial.init, 0.0
    if init == "k-means++":
        size = trial.n_codewords
        init, before = plus_plus(trial.matrix, trial.dtype, size, trial.seed)
    model = PartitioningGuidedKMeans(
        trial.n_codewords,
        init=init,
        empty_clusters=trial.empty_clusters,
        max_iter=cb.MAX_ITER,
        max_tentatives=cb.MAX_TENTATIVES,
        tol=0,
        random_state=trial.seed,
    )
    began = time.perf_counter()
    fit_quietly(model, X)
    return model, before + time.perf_counter() - began


def fit(trial: cb.Trial) -> cb.Result:
    """Find a codebook."""
    X = sample(trial.matrix, trial.dtype)
    model, seconds = fitted(trial)
    return cb.Result(
        model.history_[0].n_empty_before,
        trial.n_codewords - model.n_effective_clusters_,
        sum(row.n_e_steps for row in model.history_),
        model.n_iter_,
        seconds,
        relative_error(X, model.labels_, model.cluster_centers_, trial.dtype),
    )


def fit_quietly(model, X: np.ndarray):
    """Fit; that it ends early, or leaves clusters empty, is in the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X)


def relative_error(X, labels, centers, dtype: str) -> float:
    """Squared error with codewords stored in a dtype, over the sum of squares."""
    stored = centers.astype(dtype).astype(np.float64)
    return float(np.sum((X - stored[labels]) ** 2) / np.sum(X.astype(np.float64) ** 2))


def begin(start: cb.Start) -> cb.Started:
    """Deal out all blocks to the centres of a start, and look after empty clusters."""
    X = blocks_of(start.matrix)
    centers = CENTERS[start.init](X, start.n_codewords, start.seed)
    model = PartitioningGuidedKMeans(start.n_codewords, init=centers, max_iter=1)
    (row,) = fit_quietly(model, X).history_
    return cb.Started(len(X), row.n_empty_before, row.n_empty_after)


def random_blocks(X: np.ndarray, n_codewords: int, seed: int) -> np.ndarray:
    """As iPQ starts: blocks with replacement."""
    return X[np.random.default_rng(seed).integers(len(X), size=n_codewords)]


def parts(X: np.ndarray, n_codewords: int, seed: int) -> np.ndarray:
    """As ours starts; not random."""
    return partition_centers(X, np.ones(len(X)), n_codewords)


CENTERS = {"random": random_blocks, "partition": parts}


def kmeans(seed: int, max_iter: int) -> KMeans:
    """scikit-learn's own, with its defaults for few starts."""
    options = {"n_init": 1, "max_iter": max_iter, "tol": 0, "random_state": seed}
    return KMeans(1024, init="k-means++", **options)


def ours(seed: int, max_iter: int) -> PartitioningGuidedKMeans:
    """With as many iterations."""
    return PartitioningGuidedKMeans(1024, max_iter=max_iter, tol=0)


TIMED = {"scikit-learn": kmeans, "ours": ours}


def take_time(timing: cb.Timing) -> cb.Timed:
    """Seconds of one fit with as many iterations as all others."""
    X = sample("LeNet, first layer, 8", "float32")
    model = TIMED[timing.method](timing.seed, cb.MAX_ITER)
    began = time.perf_counter()
    fit_quietly(model, X)
    seconds = time.perf_counter() - began
    error = relative_error(X, model.labels_, model.cluster_centers_, "float32")
    return cb.Timed(seconds, model.n_iter_, error)


def look_at_network(trial: cb.Trial) -> cb.Scores:
    """Find a codebook, and put the network to the test with it."""
    model, _ = fitted(trial)
    weights = cb.MATRICES[trial.matrix].weights
    if weights == "lenet":
        centers, labels = model.cluster_centers_, model.labels_
        return codebooks_lenet.measure(centers, labels, trial.seed)
    return codebooks_minilm.measure(read(weights), model)


def fits(matrices: list[str]) -> list[cb.Trial]:
    """Every start with every policy; more seeds for LeNet, 1024 codewords."""
    lenet = next(iter(cb.MATRICES))
    grid = product(matrices, cb.CODEWORDS, cb.DTYPES, cb.STARTS, cb.POLICIES)
    trials = [cb.Trial(*cell) for cell in grid]
    if lenet in matrices:
        grid = product(cb.STARTS[:2], cb.POLICIES, (1, 2))
        trials += [cb.Trial(lenet, 1024, "float32", *cell) for cell in grid]
    return trials


def starts(matrices: list[str]) -> list[cb.Start]:
    """The start of iPQ and ours, all blocks."""
    grid = product(matrices, cb.CODEWORDS[1:], CENTERS)
    return [cb.Start(*cell) for cell in grid]


def timings(matrices: list[str]) -> list[cb.Timing]:
    """In turns."""
    return [cb.Timing(method, seed) for seed in range(5) for method in TIMED]


def networks(matrices: list[str]) -> list[cb.Trial]:
    """Every start with every policy."""
    grid = product(matrices, cb.CODEWORDS, ["float32"], cb.STARTS, cb.POLICIES)
    return [cb.Trial(*cell) for cell in grid]


EXPERIMENTS = {
    "fits": (fits, cb.Trial, cb.Result, fit),
    "starts": (starts, cb.Start, cb.Started, begin),
    "times": (timings, cb.Timing, cb.Timed, take_time),
    "networks": (networks, cb.Trial, cb.Scores, look_at_network),
}


def main() -> None:
    """Run what is missing of one question, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=[*EXPERIMENTS, "page"])
    parser.add_argument(
        "--matrices", nargs="+", choices=cb.MATRICES, default=cb.MATRICES
    )
    options = parser.parse_args()
    rows = {
        name: Rows(HERE / f"codebooks_{name}.csv", trial, result)
        for name, (_, trial, result, _) in EXPERIMENTS.items()
    }
    if options.question != "page":
        trials, _, _, run = EXPERIMENTS[options.question]
        rows[options.question].complete(trials(list(options.matrices)), run)
    text = write_page({name: found.results for name, found in rows.items()})
    source = provenance(
        "python docs/benchmarks/codebooks.py fits|starts|times|networks"
    )
    (HERE / "codebooks.md").write_text(f"{text}\n\n{source}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
