"""GLUE at 40 % of the word table removed, fine-tuned towards the uncompressed model.

    KPROJCLUST_DATA=folder python docs/experiments/glue_distilled.py [--seeds N]
        [--tasks CoLA ...] [--methods SVD ...]

The same models and examples as in glue.py; but for 2 epochs the compressed model learns
the answers of the uncompressed one instead of the labels, and row weights come from the
training texts of all tasks. Rows are written to glue_distilled.csv as they come; a
second call goes on where the first one stopped, and writes glue_distilled.md.
"""

import argparse
from itertools import product
from pathlib import Path

import tf_keras
from glue import CACHE
from glue_data import TASKS, Batches
from glue_losses import Kind, Results, losses, over_seeds
from glue_models import score
from glue_page import cell, markdown
from glue_rows import Result, Trial
from glue_trials import EPOCHS, LEARNING_RATE, Runner
from provenance import provenance
from rows import Rows
from sentence_similarity import training_counts
from transformers import create_optimizer

from keras_messi import compress
from keras_messi.calibration.statistics import CalibrationStatistics, TokenCounts

HERE = Path(__file__).parent
RATE = 0.4
WORDS = "bert/embeddings/word_embeddings"
METHODS = {"SVD": 1, "k-means": 5, "MESSI": 5, "ours": 20}


def distil(model: tf_keras.Model, teacher: tf_keras.Model, batches: Batches) -> None:
    """Train a model in place to give the logits of another one."""
    logits = teacher.predict(batches, verbose=0).logits
    steps = EPOCHS * len(batches)
    optimizer, _ = create_optimizer(LEARNING_RATE, steps, steps // 10)
    model.compile(optimizer, tf_keras.losses.MeanSquaredError())
    model.fit(Batches(batches.examples, logits), epochs=EPOCHS, verbose=0)


class DistillingRunner(Runner):
    """Runs trials in which the uncompressed model is the teacher."""

    def fine_tune(self, trial: Trial) -> Result:
        """The scores before and after the fine-tuning."""
        self.take(TASKS[trial.task])
        tf_keras.utils.set_random_seed(trial.seed)
        known = None
        if trial.method == "ours":
            counts = TokenCounts(training_counts(len(self.table)))
            known = CalibrationStatistics({WORDS: counts})
        model, report = compress(
            self.model, trial.config(), f"^{WORDS}$", calibration_data=known
        )
        before = score(model, self.task, self.dev)
        distil(model, self.model, self.train)
        (row,) = report.replaced
        return Result(
            row.parameters_after,
            row.relative_error,
            before,
            score(model, self.task, self.dev),
            score(model, self.task, self.train),
        )


def format_table(results: Results) -> str:
    """Points lost in each task, and on average, mean and spread over the seeds."""
    lost = {when: losses(results, f"score_{when}") for when in ("before", "after")}
    kinds = [Kind(*item) for item in METHODS.items()]
    common = [
        task
        for task in TASKS
        if task != "WNLI"  # whose score says nothing: see glue.md
        and all(over_seeds(lost["after"], [task], kind, RATE) for kind in kinds)
    ]
    groups = [*([task] for task in TASKS), common, list(TASKS)]
    rows = [
        [
            f"{kind}, {when}",
            *(cell(over_seeds(lost[when], tasks, kind, RATE)) for tasks in groups),
        ]
        for kind, when in product(kinds, lost)
    ]
    averages = [f"average of {', '.join(common)}", "average of six"]
    return markdown(["points lost", *TASKS, *averages], rows)


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args()
    rows = Rows(HERE / "glue_distilled.csv", Trial, Result)
    runner = DistillingRunner(options.cache)
    wanted = product(range(options.seeds), options.tasks, options.methods)
    trials = [
        Trial(task, method, METHODS[method], RATE, seed=seed)
        for seed, task, method in wanted
    ]
    rows.complete(trials, runner.fine_tune)
    write_page(rows.results)


def write_page(results: Results) -> None:
    """Write glue_distilled.md from the rows at hand."""
    others = Rows(HERE / "glue_before.csv", Trial, Result).results
    uncompressed = {t: x for t, x in others.items() if t.method == "uncompressed"}
    sizes = ", ".join(f"{x.name} {x.num_examples}" for x in TASKS.values())
    text = "\n\n".join(
        [
            "# GLUE, distilled",
            f"MiniLM, {100 * RATE:g} % of the word table removed; {EPOCHS} epochs "
            f"towards the logits of the uncompressed model, on as many training "
            f"examples: {sizes}. Dev scores x 100; of two seeds, mean ± standard "
            "deviation.",
            format_table(results | uncompressed),
            provenance("python docs/experiments/glue_distilled.py"),
        ]
    )
    (HERE / "glue_distilled.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
