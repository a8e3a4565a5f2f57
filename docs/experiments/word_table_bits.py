"""The word table of MiniLM in a few bits: what its embeddings lose on STS-B.

    KPROJCLUST_DATA=folder python docs/experiments/word_table_bits.py [--seeds 3]

Not fine-tuned; rows of the table count as in the training texts of six GLUE tasks.
Factors around 20 subspaces with coordinates in 2 or 3 bits, beside rounding alone in 4
bits, and in 3, 2 and 1 bits after a random rotation. The dev pairs are scored once for
each row. The same command goes on where it was interrupted.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from provenance import provenance
from rows import Rows
from sentence_similarity import NUM_CLUSTERS, Result, Runner, grouped

from keras_messi import MessiConfig, RoundingConfig
from keras_messi.calibration.statistics import DAMPING

# Shares of the numbers removed, and bits of the coordinates.
FACTORED = ((0.53, 3), (0.71, 3), (0.72, 2), (0.8, 2), (0.84, 2))
ROUNDED = (4, 3, 2, 1)


@dataclass(frozen=True)
class Trial:
    """Bits of a number; what is removed before, if anything."""

    bits: int
    rate: float = 0.0
    seed: int = 0

    def config(self) -> MessiConfig | RoundingConfig:
        """How `compress` is told so."""
        if not self.rate:
            rotate = self.bits < 4
            return RoundingConfig(self.bits, None, rotate=rotate, seed=self.seed)
        coordinates = RoundingConfig(self.bits, seed=self.seed)
        return MessiConfig(
            self.rate, NUM_CLUSTERS, quantization=coordinates, seed=self.seed
        )


def row(bits: int, rate: float, found: list[Result], before: float, size: int) -> str:
    """A row of the table, with the mean over seeds."""
    how = f"{100 * rate:g} % removed, {bits} bits" if rate else f"{bits} bits"
    smaller = size / np.mean([x.bytes for x in found])
    lost = before - np.array([x.score for x in found])
    spread = f"{lost.mean():.2f} ± {lost.std():.2f}"
    return f"| {how} | {smaller:.1f} | {spread} | {len(found)} |"


def table(rows: Rows, before: float, size: int) -> str:
    """All rows, the largest first."""
    groups = grouped(rows, list(rows.results), "bits", "rate").items()
    ordered = sorted(groups, key=lambda item: -item[1][0].bytes)
    lines = [row(*key, found, before, size) for key, found in ordered]
    head = ["| how | x fewer bytes | lost | seeds |", "|---|---|---|---|"]
    return "\n".join([*head, *lines])


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    here, runner = Path(__file__), Runner()
    rows = Rows(here.with_suffix(".csv"), Trial, Result)
    trials = [Trial(bits, rate, s) for s in range(seeds) for rate, bits in FACTORED]
    trials += [Trial(bits, seed=s) for s in range(seeds) for bits in ROUNDED]
    rows.complete(trials, lambda x: runner.measure("dev", x.config(), DAMPING))
    before = runner.score("dev")
    text = "\n\n".join(
        [
            "# The word table of MiniLM in a few bits",
            f"Spearman's correlation x 100 on the dev pairs of STS-B, {before:.2f} "
            "uncompressed; not fine-tuned. Differences below .3 are ties.",
            table(rows, before, runner.table.nbytes),
            provenance(f"python docs/experiments/{here.name} --seeds {seeds}"),
        ]
    )
    here.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
