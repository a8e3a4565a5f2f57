"""MiniLM's word table in codebooks and codes, at 16 x fewer bytes, not fine-tuned.

    KPROJCLUST_DATA=folder python docs/experiments/word_table_codes.py choose
    KPROJCLUST_DATA=folder python docs/experiments/word_table_codes.py table [--seeds N]

"choose" compares blocks and codebooks on training pairs of STS-B, which CHOSEN below
was taken from; "table" looks at the dev pairs once. Rows count by how often they are
read in the training texts of six GLUE tasks. Rows are written to word_table_codes.csv
as they come; a second call goes on where the first one stopped.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from provenance import provenance
from rows import Rows, options_of
from sentence_similarity import Result, Runner, spread

from keras_messi import PQConfig
from keras_messi.calibration.statistics import DAMPING

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Trial:
    """How the word table is coded; a damping of 0 means no calibration."""

    part: str
    block_size: int
    num_codewords: int
    num_codebooks: str
    damping: float = DAMPING
    seed: int = 0

    def config(self) -> PQConfig:
        """How `compress` is told so."""
        books = self.num_codebooks
        count = books if books == "all" else int(books)
        return PQConfig(self.block_size, self.num_codewords, count, self.seed)


# All at 16 x fewer bytes, or a little more.
CHOICES = [
    Trial("train", 4, 128, "1"),
    Trial("train", 4, 128, "all"),
    Trial("train", 6, 1024, "1"),
    Trial("train", 4, 128, "1", damping=0.0),
]
# Taken from "choose".
CHOSEN = CHOICES[2]


def format_table(rows: Rows, trials: list[Trial], size: int) -> str:
    """Sizes and scores, with mean and standard deviation over seeds."""
    heading = ["codewords", "codebooks", "weights of rows", "error", "bytes", "score"]
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    groups: dict[Trial, list[Result]] = {}
    for trial in trials:
        groups.setdefault(replace(trial, seed=0), []).append(rows.results[trial])
    for trial, found in groups.items():
        cells = [
            f"{trial.num_codewords} x {trial.block_size}",
            trial.num_codebooks,
            f"damping {trial.damping}" if trial.damping else "none",
            f"{np.mean([x.relative_error for x in found]):.4f}",
            f"{size / found[0].bytes:.1f} x fewer",
            spread(found),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing of one question, then write its page."""
    options = options_of(__doc__)
    runner = Runner()
    rows = Rows(HERE / "word_table_codes.csv", Trial, Result)
    trials, part = CHOICES, "train"
    if options.question == "table":
        part = "dev"
        trials = [replace(CHOSEN, part=part, seed=s) for s in range(options.seeds)]
    rows.complete(
        trials, lambda trial: runner.measure(trial.part, trial.config(), trial.damping)
    )
    command = f"word_table_codes.py {options.question} --seeds {options.seeds}"
    text = "\n\n".join(
        [
            f"# MiniLM's word table in codes: {options.question}",
            f"Spearman's correlation x 100 on the {part} pairs of STS-B, mean ± "
            f"standard deviation over seeds; uncompressed {runner.score(part):.2f}. "
            "Not fine-tuned.",
            format_table(rows, trials, 4 * runner.table.size),
            provenance(f"python docs/experiments/{command}"),
        ]
    )
    path = HERE / f"word_table_codes_{options.question}.md"
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
