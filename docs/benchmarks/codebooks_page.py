"""The page of codebooks.py, from the rows of its files."""

from collections.abc import Iterable, Mapping
from typing import Any

import codebooks_rows as cb
import numpy as np

Results = Mapping[Any, Any]
# cb.Start and policy of what stands side by side.
SIDES = {
    "iPQ": ("random", "perturb"),
    "k-means++, farthest": ("k-means++", "farthest"),
    "ours": ("partition", "partition"),
}
EXPLAINED = f"""\
A codebook is found for blocks of 8 or 4 consecutive weights of a row, as iPQ cuts them:
the first layer of LeNet-300-100 (29,400 blocks of 8), the word table of MiniLM and its
first Dense layer of 1536 units; of the last two {cb.NUM_BLOCKS:,} blocks, drawn at
random. All fits have {cb.MAX_ITER} iterations. In float16, weights and codewords are
rounded to 16 bits, and computed with in 32. Errors are squared, over the sum of
squares.

* Starts: *random* blocks with replacement, as iPQ takes them; *k-means++* of
  scikit-learn; *partition*, ours.
* Empty clusters: *perturb*, as iPQ does, one E-step for each and at most
  {cb.MAX_TENTATIVES} an iteration, after which it gives up; *farthest*, as scikit-learn
  does, with labels brought up to date by an E-step; *partition*, ours.
* E-steps are those beyond one an iteration. Seconds include the start; other work ran
  beside these fits, so compare the table of times instead."""


def write_page(results: Mapping[str, Results]) -> str:
    """All tables whose rows are there."""
    fits = results["fits"]
    parts = ["# Codebooks for real weights", EXPLAINED]
    parts += ["## Side by side", side_by_side(fits)]
    if results["starts"]:
        parts += ["## Starts on all blocks", all_blocks(results["starts"])]
    if results["times"]:
        parts += ["## Time", times(results["times"])]
    if results["networks"]:
        parts += ["## In the network", in_the_network(results["networks"])]
    parts += ["## Over seeds", over_seeds(fits)]
    for matrix in cb.MATRICES:
        if any(trial.matrix == matrix for trial in fits):
            parts += [f"## {matrix}", every_way(fits, matrix)]
    return "\n\n".join(parts)


def table(heading: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Markdown."""
    heading = list(heading)
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def side_by_side(fits: Results) -> str:
    """iPQ, the usual best and ours, in float32."""
    heading = ["matrix", "K"]
    for side in SIDES:
        heading += [f"{side}: empty", "E-steps", "error"]
    rows = []
    for matrix in cb.MATRICES:
        for size in cb.CODEWORDS:
            trials = [
                cb.Trial(matrix, size, "float32", *pair) for pair in SIDES.values()
            ]
            if all(trial in fits for trial in trials):
                cells = [cell for trial in trials for cell in _cells(fits[trial])]
                rows.append([matrix, size, *cells])
    return table([*heading, "ours / k-means++"], map(_with_ratio, rows))


def _cells(result: cb.Result) -> list[str]:
    empty = f"{result.n_empty_start} → {result.n_empty_end}"
    return [empty, f"{result.n_e_steps}", f"{result.relative_error:.4f}"]


def _with_ratio(row: list[Any]) -> list[Any]:
    return [*row, f"{float(row[-1]) / float(row[-4]):.3f}"]


def all_blocks(found: Results) -> str:
    """Empty clusters at the start, of all blocks of each matrix."""
    rows = []
    for matrix in cb.MATRICES:
        for size in cb.CODEWORDS:
            pair = [cb.Start(matrix, size, init) for init in ("random", "partition")]
            if all(start in found for start in pair):
                random, ours = (found[start] for start in pair)
                cells = [f"{random.n_blocks:,}", size, random.n_empty_start]
                rows.append([matrix, *cells, ours.n_empty_start, ours.n_empty_end])
    return table(
        ["matrix", "blocks", "K", "empty: random", "partition", "and filled"],
        rows,
    )


def times(found: Mapping[Any, cb.Timed]) -> str:
    """Median seconds, and how much ours takes of scikit-learn's."""
    by_method: dict[str, list[cb.Timed]] = {}
    for timing, timed in found.items():
        by_method.setdefault(timing.method, []).append(timed)
    medians = {name: _median(rows) for name, rows in by_method.items()}
    rows = [
        [
            name,
            f"{medians[name]:.2f}",
            f"{medians[name] / medians['scikit-learn']:.2f}",
            f"{np.mean([x.relative_error for x in rows]):.4f}",
        ]
        for name, rows in by_method.items()
    ]
    intro = (
        f"LeNet's first layer, 1024 codewords, {cb.MAX_ITER} iterations, fits in "
        "turns, alone on the machine."
    )
    heading = ["", "seconds, median", "of scikit-learn's", "error"]
    return f"{intro}\n\n{table(heading, rows)}"


def _median(rows: list[cb.Timed]) -> float:
    return float(np.median([row.seconds for row in rows]))


def in_the_network(found: Mapping[Any, cb.Scores]) -> str:
    """Points that the networks lose: a line for a start, a column for a policy."""
    intro = (
        "Points lost with the matrix in codes and all else as it is. LeNet: of "
        "accuracy on the 10,000 test images of MNIST, at once and after one epoch in "
        "which all layers learn the softened answers of the uncompressed network. "
        "MiniLM: of Spearman's correlation x 100 on the dev pairs of STS-B, not "
        f"fine-tuned; the codebook of {cb.NUM_BLOCKS:,} blocks is used for all blocks."
    )
    lines: dict[tuple[Any, ...], dict[str, str]] = {}
    for trial, scores in found.items():
        line = lines.setdefault((trial.matrix, trial.n_codewords, trial.init), {})
        line[trial.empty_clusters] = _lost(scores)
    rows = [
        [*key, *(line.get(name, "") for name in cb.POLICIES)]
        for key, line in sorted(lines.items(), key=lambda item: _order(*item[0]))
    ]
    return f"{intro}\n\n{table(['matrix', 'K', 'start', *cb.POLICIES], rows)}"


def _order(matrix: str, size: int, init: str) -> tuple[int, int, int]:
    return list(cb.MATRICES).index(matrix), size, cb.STARTS.index(init)


def _lost(scores: cb.Scores) -> str:
    later = [scores.coded, scores.fine_tuned]
    lost = [f"{100 * (scores.uncompressed - x):.2f}" for x in later if not np.isnan(x)]
    return " → ".join(lost)


def over_seeds(fits: Results) -> str:
    """LeNet with 1024 codewords, mean and standard deviation."""
    lenet = next(iter(cb.MATRICES))
    rows = []
    for init in cb.STARTS:
        for policy in cb.POLICIES:
            trials = [
                cb.Trial(lenet, 1024, "float32", init, policy, s) for s in range(3)
            ]
            errors = [fits[x].relative_error for x in trials if x in fits]
            if errors:
                spread = f"{np.mean(errors):.4f} ± {np.std(errors):.4f}"
                rows.append([init, policy, len(errors), spread])
    return table(["start", "empty clusters", "seeds", "error"], rows)


def every_way(fits: Results, matrix: str) -> str:
    """All starts and policies of one matrix."""
    heading = ["K", "", "start", "empty clusters", "empty", "E-steps"]
    rows = []
    for size in cb.CODEWORDS:
        for dtype in cb.DTYPES:
            for init in cb.STARTS:
                for policy in cb.POLICIES:
                    trial = cb.Trial(matrix, size, dtype, init, policy)
                    if trial in fits:
                        ways = [size, dtype, init, policy]
                        rows.append([*ways, *_all_cells(fits[trial])])
    return table([*heading, "iterations", "seconds", "error"], rows)


def _all_cells(result: cb.Result) -> list[Any]:
    empty, steps, error = _cells(result)
    return [empty, steps, result.n_iter, f"{result.seconds:.1f}", error]
