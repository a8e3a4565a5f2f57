"""Rows of the benchmark of deployment."""

from collections.abc import Mapping
from dataclasses import dataclass

UNCOMPRESSED = "uncompressed"


@dataclass(frozen=True)
class Trial:
    """A network, what it was made smaller by, and a kind of file."""

    network: str
    form: str
    kind: str


@dataclass(frozen=True)
class Result:
    """What came of it.

    Bytes as the model is saved, and of the file; seconds that the export took; how much
    larger a process is that has loaded the file and run it once, in MB. Milliseconds of
    a call, and their ratio to those of the uncompressed file, for a batch of 1 and of
    32, by one thread and by two. The distance of the outputs of the file from those of
    the model, over their size. Scores of both, or NaN.
    """

    saved_bytes: int
    file_bytes: int
    seconds: float
    memory_mb: float
    milliseconds_1: float
    ratio_1: float
    milliseconds_32: float
    ratio_32: float
    milliseconds_1_by_two: float
    ratio_1_by_two: float
    milliseconds_32_by_two: float
    ratio_32_by_two: float
    distance: float
    model_score: float
    score: float


Results = Mapping[Trial, Result]
