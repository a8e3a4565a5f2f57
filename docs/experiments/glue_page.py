"""glue.md and its pictures, from the rows at hand."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from glue_data import MAX_LENGTH, TASKS, load
from glue_losses import (
    K_MEANS,
    MESSI,
    OTHER_COUNTS,
    OURS,
    SVD,
    Kind,
    Losses,
    Results,
    best_by_training,
    losses,
    over_seeds,
    rates_of,
)
from glue_models import TRAINING_EPOCHS, TRAINING_EXAMPLES, TRAINING_RATE
from glue_plots import save_curves
from glue_trials import EPOCHS, LEARNING_RATE
from provenance import provenance

HERE = Path(__file__).parent
RANKS_OF_L1 = (259, 174)
SCORE_NAMES = {
    "accuracy_score": "accuracy",
    "matthews_corrcoef": "Matthews correlation",
    "spearman": "Spearman correlation",
}

INTRODUCTION = f"""\
Points lost against the uncompressed model of the task: scores x 100 on the whole dev
part, negative where the small model is better. The models are MiniLM (6 layers, word
table 30522 x 384) with a new head, trained once for {TRAINING_EPOCHS} epochs of Adam
at {TRAINING_RATE:g}. Then the word table is compressed, and the whole model is
fine-tuned for {EPOCHS} epochs at {LEARNING_RATE:g}. Batches are of 32, texts of at most
{MAX_LENGTH} word pieces; the learning rate grows over a tenth of the steps and falls to
zero. All this was fixed beforehand, and dev was looked at for these tables only. Seeds
are those of the clustering and of the fine-tuning.

* SVD: one subspace.
* k-means: clusters of near rows, each factored.
* MESSI: as in the paper, the same rank for each subspace.
* ours: `MessiConfig(rate)` and `calibration_data`, the texts that the model was trained
  on: budgeted ranks, rows weighted by use."""

WNLI = """\
Of the 71 dev pairs of WNLI, 65 have the first sentence of a training pair, with another
second one. A model that learned from these is right on fewer than by chance, already
uncompressed. What it loses says nothing, so there is an average without it."""

DATA = """\
The data are those of GLUE (Wang et al., 2018): CoLA (Warstadt et al., 2018), SST-2
(Socher et al., 2013), STS-B (Cer et al., 2017), MRPC (Dolan and Brockett, 2005), RTE
(Dagan et al., 2006, and its later rounds), WNLI (Levesque et al., 2011)."""


def write_page(before: Results, after: Results) -> None:
    """Write glue.md and its pictures."""
    # What was fine-tuned was measured before, too.
    at_once = losses({**after, **before}, "score_before")
    later = losses(after, "score_after")
    sections = [
        "# MiniLM on GLUE",
        INTRODUCTION,
        sizes_table({**after, **before}),
        WNLI,
        *section(
            "After fine-tuning",
            fine_tuned_table(losses(after, "score_before"), later),
            picture("glue_fine_tuned", "After 2 epochs of fine-tuning", later),
        ),
        *section(
            "Best k by the training score",
            ensemble_table(later, best_by_training(after)),
            picture("glue_ensemble", "Best k by the training score", later, after),
        ),
        *section(
            "Without fine-tuning",
            before_table(at_once),
            picture("glue_before", "Without fine-tuning", at_once),
        ),
        *section("As many numbers as before, k = 7", same_size_table(before)),
        *section("Distances and squared distances", l1_table(at_once, later)),
        DATA,
        provenance("python docs/experiments/glue.py"),
    ]
    (HERE / "glue.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def section(title: str, table: str, picture: str = "") -> list[str]:
    """A section, if its table has rows."""
    parts = [f"## {title}", table, picture] if table else []
    return [part for part in parts if part]


def picture(
    name: str, title: str, lost: Losses, ensemble_of: Results | None = None
) -> str:
    """Draw the curves, if any task has one, and say where they are."""
    curves = {
        trial: points
        for trial, points in lost.items()
        if len(rates_of(lost, trial.task)) > 1
    }
    if not curves:
        return ""
    best = best_by_training(ensemble_of) if ensemble_of else None
    save_curves(curves, HERE / f"{name}.png", title, best)
    return f"![{title}: points lost by task and rate]({name}.png)"


def cell(points: list[float]) -> str:
    """Mean and, of several seeds, standard deviation."""
    if not points:
        return ""
    text = f"{np.mean(points):.2f}"
    return f"{text} ± {np.std(points):.2f}" if len(points) > 1 else text


def markdown(heading: list[str], rows: Iterable[list[str]]) -> str:
    """A table; nothing, if it has no rows."""
    rows = list(rows)
    if not rows:
        return ""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def groups_of_tasks(lost: Losses) -> list[tuple[str, list[str]]]:
    """What the rows of a table are of: each task, then averages."""
    present = [name for name in TASKS if any(trial.task == name for trial in lost)]
    averages = {
        "average of six": list(TASKS),
        "average without WNLI": [name for name in TASKS if name != "WNLI"],
    }
    return [(name, [name]) for name in present] + [
        (name, tasks) for name, tasks in averages.items() if set(tasks) <= set(present)
    ]


def sizes_table(results: Results) -> str:
    """What each task was trained on, and the score of its uncompressed model."""
    scores = {
        trial.task: f"{result.score_before:.2f}"
        for trial, result in results.items()
        if trial.method == "uncompressed"
    }
    rows = []
    for name, task in TASKS.items():
        counts = (
            len(load(task, part, at_most).labels)
            for part, at_most in (
                ("train", TRAINING_EXAMPLES),
                ("train", task.num_examples),
                ("dev", None),
            )
        )
        score = SCORE_NAMES[task.metric.__name__]
        rows.append([name, *map(str, counts), score, scores.get(name, "")])
    heading = ["", "trained on", "fine-tuned on", "dev", "score", "uncompressed"]
    return markdown(heading, rows)


def fine_tuned_table(at_once: Losses, later: Losses) -> str:
    """Points lost before -> after fine-tuning, methods side by side."""
    kinds = SVD, K_MEANS, MESSI, OURS
    rows = []
    for rate in rates_of(later):
        for name, tasks in groups_of_tasks(
            {t: x for t, x in later.items() if t.rate == rate}
        ):
            row = [f"{100 * rate:g} %", name]
            row.append(cell(over_seeds(later, tasks, Kind("uncompressed", 1))))
            for kind in kinds:
                cells = [
                    cell(over_seeds(x, tasks, kind, rate=rate))
                    for x in (at_once, later)
                ]
                row.append(" → ".join(cells) if all(cells) else "")
            rows.append(row)
    return markdown(["removed", "", "only fine-tuned", *map(str, kinds)], rows)


def ensemble_table(later: Losses, best: Losses) -> str:
    """Points lost after fine-tuning by the k of the best training score, seed 0."""
    rows = []
    for trial, points in best.items():
        tried = {
            other.num_clusters
            for other in later
            if replace(other, method="", num_clusters=0)
            == replace(trial, method="", num_clusters=0)
            and other.method in ("SVD", "MESSI")
        }
        rows.append(
            [
                trial.task,
                f"{100 * trial.rate:g} %",
                f"{trial.num_clusters} of {', '.join(map(str, sorted(tried)))}",
                f"{points:.2f}",
                cell(over_seeds(later, [trial.task], SVD, rate=trial.rate)),
            ]
        )
    return markdown(["", "removed", "best k", "points lost", "SVD"], rows)


def before_table(at_once: Losses) -> str:
    """Points lost without fine-tuning."""
    tried = {(trial.method, trial.num_clusters) for trial in at_once if trial.rate}
    columns = SVD, K_MEANS, OTHER_COUNTS[0], MESSI, OTHER_COUNTS[1], OURS
    kinds = [kind for kind in columns if kind in tried]
    rows = []
    for name, tasks in groups_of_tasks(at_once):
        for rate in rates_of(at_once):
            cells = [cell(over_seeds(at_once, tasks, kind, rate)) for kind in kinds]
            if any(cells):
                rows.append([name, f"{100 * rate:g} %", *cells])
    return markdown(["", "removed", *map(str, kinds)], rows)


def same_size_table(before: Results) -> str:
    """The word table with k = 7 and as many numbers as it had."""
    scores = {
        trial.task: result.score_before
        for trial, result in before.items()
        if trial.method == "uncompressed"
    }
    rows = [
        [
            trial.task,
            f"{scores[trial.task]:.2f}",
            f"{result.score_before:.2f}",
            f"{result.numbers:,}",
            f"{result.relative_error:.4f}",
        ]
        for trial, result in before.items()
        if trial.num_clusters == 7
    ]
    return markdown(["", "uncompressed", "k = 7", "numbers", "squared error"], rows)


def l1_table(at_once: Losses, later: Losses) -> str:
    """Points lost by clusters that minimise distances and squared distances."""
    rows = []
    for epochs, lost in ((0, at_once), (EPOCHS, later)):
        for task, k in (("MRPC", 5), ("RTE", 10)):
            for method, loss in (("MESSI l_1", "l_1"), ("MESSI", "squared")):
                kind = Kind(method, k)
                cells = [
                    cell(over_seeds(lost, [task], kind, rank=j)) for j in RANKS_OF_L1
                ]
                if any(cells):
                    rows.append([loss, task, f"{k}", f"{epochs}", *cells])
    heading = ["loss", "", "k", "epochs", *(f"j = {j}" for j in RANKS_OF_L1)]
    return markdown(heading, rows)
