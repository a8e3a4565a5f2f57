"""What is tried with codebooks, and what came of it: the rows of the files."""

from dataclasses import dataclass

# As many blocks as the first layer of LeNet has, drawn at random where there are more.
NUM_BLOCKS = 29_400
# As iPQ does by default.
MAX_ITER, MAX_TENTATIVES = 15, 100
CODEWORDS = (256, 1024, 3072)
DTYPES = ("float32", "float16")
STARTS = ("random", "k-means++", "partition")
POLICIES = ("perturb", "farthest", "partition")


@dataclass(frozen=True)
class Matrix:
    """Weights, and how they are cut: rows of a unit or of a token into blocks."""

    weights: str
    block_size: int


MATRICES = {
    "LeNet, first layer, 8": Matrix("lenet", 8),
    "MiniLM, word table, 8": Matrix("embeddings.word_embeddings", 8),
    "MiniLM, word table, 4": Matrix("embeddings.word_embeddings", 4),
    "MiniLM, Dense, 8": Matrix("encoder.layer.0.intermediate.dense", 8),
    "MiniLM, Dense, 4": Matrix("encoder.layer.0.intermediate.dense", 4),
}


@dataclass(frozen=True)
class Trial:
    """What is fitted: the matrix, and how."""

    matrix: str
    n_codewords: int
    dtype: str
    init: str
    empty_clusters: str
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """What came of it; E-steps beyond one an iteration, and error over energy."""

    n_empty_start: int
    n_empty_end: int
    n_e_steps: int
    n_iter: int
    seconds: float
    relative_error: float


@dataclass(frozen=True)
class Start:
    """The start of a codebook of all blocks of a matrix."""

    matrix: str
    n_codewords: int
    init: str
    seed: int = 0


@dataclass(frozen=True)
class Started:
    """Blocks, and clusters that are empty at once and after they were looked after."""

    n_blocks: int
    n_empty_start: int
    n_empty_end: int


@dataclass(frozen=True)
class Timing:
    """Whose fit of LeNet's first layer, 1024 codewords."""

    method: str
    seed: int


@dataclass(frozen=True)
class Timed:
    """What it took, and the error over the energy."""

    seconds: float
    n_iter: int
    relative_error: float


@dataclass(frozen=True)
class Scores:
    """Of the network: accuracy, or correlation; nan where it was not fine-tuned."""

    uncompressed: float
    coded: float
    fine_tuned: float = float("nan")
