"""The word table of MiniLM in a few bits: what its embeddings lose on STS-B.

    KPROJCLUST_DATA=folder python docs/experiments/word_table_bits.py choose
    KPROJCLUST_DATA=folder python docs/experiments/word_table_bits.py table [--seeds 3]

Not fine-tuned; rows of the table count as in the training texts of six GLUE tasks.
Factors around a few subspaces with entropy coded coordinates, beside coordinates in as
many bits each, rounding alone in 4 bits, and in 3, 2 and 1 bits after a random
rotation. "choose" compares shares removed, bits and numbers of subspaces of about the
same size on training pairs, which CODED below was taken from; "table" scores the dev
pairs once for each row. The same command goes on where it was interrupted.
"""

from dataclasses import dataclass
from pathlib import Path

import word_table_rivals
from provenance import write_page
from rows import Rows, options_of
from sentence_similarity import NUM_CLUSTERS, Result, Runner, grouped
from word_table_rivals import table_of

from keras_messi import EntropyCodingConfig, MessiConfig, RoundingConfig
from keras_messi.calibration.statistics import DAMPING

HERE = Path(__file__)


@dataclass(frozen=True)
class Trial:
    """Bits of a number; subspaces and what is removed before, if anything."""

    part: str
    coding: str
    bits: float
    rate: float = 0.0
    num_clusters: int = 0
    seed: int = 0

    def config(self) -> MessiConfig | RoundingConfig | EntropyCodingConfig:
        """How `compress` is told so."""
        if self.coding == "entropy":
            numbers = EntropyCodingConfig(self.bits)
        elif self.rate:
            numbers = RoundingConfig(int(self.bits), seed=self.seed)
        else:
            rotate = self.bits < 4
            bits = int(self.bits)
            numbers = RoundingConfig(bits, None, rotate=rotate, seed=self.seed)
        if not self.rate:
            return numbers
        return MessiConfig(
            self.rate, self.num_clusters, quantization=numbers, seed=self.seed
        )


# By how many times fewer bytes: shares removed, and mean bits of what is left.
SIZES = {
    16: ((0.0, 2.0), (0.3, 2.75), (0.5, 3.8)),
    25: ((0.3, 1.75), (0.5, 2.4), (0.7, 3.9)),
    31: ((0.3, 1.4), (0.5, 1.9), (0.7, 3.1)),
    42: ((0.5, 1.4), (0.7, 2.25), (0.8, 3.3)),
    50: ((0.5, 1.15), (0.7, 1.85), (0.8, 2.7)),
}
# Taken from "choose": the best of each size, in shares removed, bits and subspaces.
CODED = ((0.3, 2.75, 5), (0.3, 1.7, 5), (0.3, 1.34, 5), (0.5, 1.39, 5), (0.7, 1.9, 20))
# Shares of the numbers removed, and bits of the coordinates.
FACTORED = ((0.53, 3), (0.71, 3), (0.72, 2), (0.8, 2), (0.84, 2))
ROUNDED = (4, 3, 2, 1)
OTHERS = "In bold what `compress` makes, the rest by others (`word_table_rivals.py`)."


def choices() -> list[Trial]:
    """Ways to each size."""
    return [
        Trial("train", "entropy", bits, rate, k)
        for ways in SIZES.values()
        for rate, bits in ways
        for k in ((5, 20) if rate else (0,))
    ]


def table_trials(seeds: int) -> list[Trial]:
    """All rows of the table."""
    rounded = [Trial("dev", "rounding", bits, seed=0) for bits in ROUNDED]
    for seed in range(seeds):
        rounded += [
            Trial("dev", "entropy", bits, rate, k, seed) for rate, bits, k in CODED
        ]
        rounded += [
            Trial("dev", "rounding", bits, rate, NUM_CLUSTERS, seed)
            for rate, bits in FACTORED
        ]
        # The first seed stands above; four bits draw nothing.
        rounded += [Trial("dev", "rounding", x, seed=seed) for x in ROUNDED[1:] if seed]
    return rounded


def named(rows: Rows, trials: list[Trial]) -> dict[str, list[Result]]:
    """Results by how the table was made smaller."""
    fields = "coding", "bits", "rate", "num_clusters"
    return {_name(*key): found for key, found in grouped(rows, trials, *fields).items()}


def _name(coding: str, bits: float, rate: float, num_clusters: int) -> str:
    numbers = f"{bits:g} bits" + (" entropy coded" if coding == "entropy" else "")
    if not rate:
        return f"**{numbers}**"
    return f"**{100 * rate:g} % removed, k = {num_clusters}, {numbers}**"


def main() -> None:
    """Run what is missing of one question, and write its page."""
    asked = options_of(__doc__)
    rows, runner = Rows(HERE.with_suffix(".csv"), Trial, Result), Runner()
    choose = asked.question == "choose"
    trials = choices() if choose else table_trials(asked.seeds)
    rows.complete(trials, lambda x: runner.measure(x.part, x.config(), DAMPING))
    before, groups = runner.score(trials[0].part), named(rows, trials)
    if not choose:
        groups |= word_table_rivals.named(word_table_rivals.all_rows())
    lines = [
        f"Spearman's correlation x 100 on the {trials[0].part} pairs of STS-B, "
        f"{before:.2f} uncompressed; not fine-tuned. Differences below .3 with one "
        "seed are ties.",
        *(() if choose else (OTHERS,)),
        table_of(groups, before, runner.table.nbytes),
    ]
    path = HERE if not choose else HERE.with_stem(f"{HERE.stem}_choose")
    command = f"python docs/experiments/{HERE.name} {asked.question}"
    title = "The word table of MiniLM in a few bits"
    write_page(
        path.with_suffix(".md"),
        f"{title}: choose" if choose else title,
        "\n\n".join(lines),
        command if choose else f"{command} --seeds {asked.seeds}",
    )


if __name__ == "__main__":
    main()
