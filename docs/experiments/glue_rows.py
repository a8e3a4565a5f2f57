"""What is tried on GLUE, and what came of it: the rows of the files."""

from dataclasses import dataclass

from keras_messi import MessiConfig

# Method, and how it differs from plain MESSI.
METHODS: dict[str, dict[str, str]] = {
    "uncompressed": {},
    "SVD": {},
    "MESSI": {},
    "MESSI l_1": {"loss": "l1"},
    "k-means": {"clustering": "k-means"},
    "ours": {"ranks": "budget"},
}


@dataclass(frozen=True)
class Trial:
    """What is tried; either rate or rank is 0, both without compression."""

    task: str
    method: str
    num_clusters: int
    rate: float
    rank: int = 0
    seed: int = 0

    def config(self) -> MessiConfig:
        """How `compress` is told so."""
        options = {"ranks": "uniform", **METHODS[self.method]}
        size = {"rank": self.rank} if self.rank else {"rate": self.rate}
        return MessiConfig(
            num_clusters=self.num_clusters, seed=self.seed, **size, **options
        )


@dataclass(frozen=True)
class Result:
    """What came of a trial: numbers of the word table, and scores times 100.

    `score_before` and `score_after` fine-tuning are of dev, `training_score` is of the
    examples that were fine-tuned on. nan: not fine-tuned.
    """

    numbers: int
    relative_error: float
    score_before: float
    score_after: float = float("nan")
    training_score: float = float("nan")
