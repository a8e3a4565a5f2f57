"""What a compression method is to do, as frozen dataclasses."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor
from numbers import Integral, Real
from typing import Any

# Integers of a larger entropy would often not fit into a byte.
_MOST_ENTROPY = 6


@dataclass(frozen=True)
class MessiConfig:
    """Replace a matrix by k clusters of rows, each on a subspace (MESSI).

    Exactly one of `rate` and `rank` is given.

    Args:
        rate: Share of the numbers to remove, between 0 and 1: the compression rate of
            the paper.
        num_clusters: Number of subspaces k, 1 for the singular value decomposition, or
            "auto": for each layer a few up to `max_clusters` are tried by bisection,
            and the one stays of which error times bytes is least, a percent more for
            each cluster but the first: that is what its operations must be worth.
        rank: Dimension j of every subspace, instead of a rate and of `ranks`.
        ranks: "budget" gives each subspace of a layer its own dimension, so that
            the numbers kept leave the least error. "uniform" gives all of them the
            dimension `floor((1 - rate) d n / (n + num_clusters d))`, as in the paper.
        scope: What the rate is a share of. "layer" removes it from every layer that the
            filters of `compress` match. "model" removes it from these layers together,
            so that the last number kept does as much for every one; where all numbers
            are worth it, a layer is left whole. It takes `ranks="budget"`. "auto" does
            the same with the layers that the filters match; without filters, only with
            those that hold much and lose little: the large tables of a model, or, if
            tables are not much of it, its large Dense layers but for the last one.
        quantization: "int8" or "int4" stores the factors as such integers. A `PQConfig`
            stores the coordinates as codes, with one codebook or "all", and leaves the
            bases. A rate then is what is removed before there are codes, ranks become
            multiples of the block size, and a `rank` must be one. A `RoundingConfig`
            stores the coordinates in so many bits, with a scale a row, and the bases
            in int8, or in int4 where they are most of the numbers; of it, bits, levels
            and seed count. An `EntropyCodingConfig` does the same with entropy coded
            coordinates, and takes up to 256 clusters.
        loss: What the clusters minimise of the distances of their rows: a name or an
            object that `kprojclust.KSubspaces` takes, such as "l1".
        clustering: "subspaces", or "k-means" for the paper's control: clusters of near
            rows, each then factored. It takes `ranks="uniform"`.
        seed: Seed of the clustering.
        side: What the subspaces of a kernel are of: its "inputs", as in the paper, or
            its "outputs", which `MessiDense` does without a gather of inputs. "auto" is
            "inputs" without calibration data. With these, outputs are fitted so that
            they change least, as the second moment of all inputs tells, and the better
            side of each layer stays, or a single subspace. Of a table, always the
            tokens are clustered.
        sequential: Whether kernels are fitted one after another, in the order in which
            the model calls them, each to what it gets from those fitted before it. So
            it makes up for part of their errors. It takes calibration data, through
            which the model is run twice for each kernel.
        max_clusters: Most subspaces that `num_clusters="auto"` may choose.

    Example:

    >>> from keras_messi import MessiConfig
    >>> MessiConfig(rate=0.4, num_clusters=5).rank_for(30522, 768)
    409

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290), Section 2 and
          Appendices D and E.
    """

    rate: float | None = None
    num_clusters: int | str = 5
    rank: int | None = None
    ranks: str = "budget"
    scope: str = "auto"
    quantization: "str | PQConfig | RoundingConfig | EntropyCodingConfig | None" = None
    loss: Any = "squared"
    clustering: str = "subspaces"
    seed: int = 0
    side: str = "auto"
    sequential: bool = False
    max_clusters: int = 32

    def __post_init__(self) -> None:
        _check_one_of("rate", self.rate, "rank", self.rank)
        if self.rate is not None:
            _check_rate(self.rate)
        if self.rank is not None:
            _check_integer("rank", self.rank, least=1)
        if self.num_clusters != "auto":
            _check_integer("num_clusters", self.num_clusters, least=1, other='"auto"')
        _check_integer("max_clusters", self.max_clusters, least=1)
        _check_choice("ranks", self.ranks, "budget", "uniform")
        _check_choice("scope", self.scope, "auto", "layer", "model")
        _check_choice("side", self.side, "auto", "inputs", "outputs")
        if isinstance(self.quantization, PQConfig):
            self._check_blocks(self.quantization)
        elif not isinstance(self.quantization, RoundingConfig | EntropyCodingConfig):
            _check_choice("quantization", self.quantization, None, "int8", "int4")
        _check_choice("clustering", self.clustering, "subspaces", "k-means")
        _check_integer("seed", self.seed, least=0)
        _check_choice("sequential", self.sequential, False, True)
        if self.scope == "model" and self.is_uniform:
            self._refuse("scope", 'takes a rate and `ranks="budget"`', "ranks", "rank")
        if self.clustering == "k-means":
            if not self.is_uniform:
                self._refuse("clustering", 'takes `ranks="uniform"`', "ranks")
            if self.loss != "squared":
                self._refuse("clustering", 'takes `loss="squared"`', "loss")

    def _check_blocks(self, coding: "PQConfig") -> None:
        # How many blocks there are to be grouped is not known before the ranks are.
        if coding.num_codebooks not in (1, "all"):
            raise ValueError(
                '`quantization.num_codebooks` must be 1 or "all" for codes of '
                f"coordinates. Received: quantization={coding}"
            )
        if self.rank is not None and self.rank % coding.block_size:
            raise ValueError(
                f"`rank` must be a multiple of block_size={coding.block_size}. "
                f"Received: rank={self.rank}"
            )

    def _refuse(self, name: str, rule: str, *others: str) -> None:
        received = ", ".join(f"{x}={getattr(self, x)!r}" for x in others)
        raise ValueError(
            f"`{name}={getattr(self, name)!r}` {rule}. Received: {received}"
        )

    @property
    def is_uniform(self) -> bool:
        """Whether all subspaces have the same dimension."""
        return self.rank is not None or self.ranks == "uniform"

    @property
    def block_size(self) -> int:
        """What ranks are multiples of."""
        coding = self.quantization
        return coding.block_size if isinstance(coding, PQConfig) else 1

    @property
    def kept(self) -> Fraction:
        """Share of the numbers to keep, as the decimal that was meant."""
        # Not its binary neighbour: 1 - 0.9 is a tenth.
        return 1 - Fraction(float(self.rate or 0)).limit_denominator(10**6)

    def numbers_for(self, size: int) -> int:
        """Numbers to keep of so many."""
        return floor(self.kept * size)

    def rank_for(self, n: int, d: int) -> int:
        """Equal rank for an (n, d) matrix; 0 if the rate allows none.

        The number of clusters must not be "auto".
        """
        if self.rank is not None:
            return self.rank
        return floor(self.kept * d * n / (n + int(self.num_clusters) * d))


@dataclass(frozen=True)
class PQConfig:
    """Replace a matrix by a few codewords and their numbers (product quantization).

    The weights of each unit of a Dense layer, and the vector of each token of an
    Embedding, are cut into blocks, and each block becomes the codeword next to it.

    Args:
        block_size: Numbers in a block, which must divide the inputs of a Dense layer
            and the width of an Embedding; other layers are left as they are.
        num_codewords: Codewords in each codebook, up to 65,536. A layer with fewer
            distinct blocks gets as many as those.
        num_codebooks: Codebooks of a layer: 1 that all blocks of a row share, "all" for
            one each, or a number that divides the blocks, for as many groups of
            consecutive blocks.
        seed: Seed of the clustering.

    Example:

    >>> from keras_messi import PQConfig
    >>> PQConfig(block_size=8, num_codewords=1024)
    PQConfig(block_size=8, num_codewords=1024, num_codebooks=1, seed=0)

    Reference:
        - [Jégou et al., 2011](https://doi.org/10.1109/TPAMI.2010.57)
        - [Stock et al., 2020](https://arxiv.org/abs/1907.05686)
    """

    block_size: int = 8
    num_codewords: int = 256
    num_codebooks: int | str = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _check_integer("block_size", self.block_size, least=1)
        _check_integer("num_codewords", self.num_codewords, least=1)
        if self.num_codewords > 65_536:
            raise ValueError(
                "`num_codewords` must not exceed 65,536, so that a code takes two "
                f"bytes. Received: num_codewords={self.num_codewords}"
            )
        if self.num_codebooks != "all":
            _check_integer("num_codebooks", self.num_codebooks, least=1, other='"all"')
        _check_integer("seed", self.seed, least=0)

    def codebooks_for(self, num_blocks: int) -> int:
        """Number of codebooks for rows of so many blocks."""
        return num_blocks if self.num_codebooks == "all" else int(self.num_codebooks)


@dataclass(frozen=True)
class RoundingConfig:
    """Keep all numbers of a matrix, each in a few bits (rounding, quantization).

    With calibration data, the errors of a Dense layer are made up for by the weights
    that are rounded after (GPTQ).

    Args:
        bits: 1 to 8: bits of a number.
        block_size: Numbers that share a scale: consecutive weights of a unit, or
            numbers of a row of a table. None for one scale a unit or row.
        levels: `"uniform"`, or `"normal"` for levels of least squared error for normal
            numbers, up to 4 bits. None stands for "normal" up to 3 bits.
        rotate: Whether to turn units and rows at random first, so that their numbers
            are about normal. Then there is nothing to make up for errors.
        seed: Seed of the rotation.

    Example:

    >>> from keras_messi import RoundingConfig
    >>> RoundingConfig(bits=3).spacing
    'normal'

    Reference:
        - [Frantar et al., 2023](https://arxiv.org/abs/2210.17323)
        - [Dettmers et al., 2023](https://arxiv.org/abs/2305.14314), Section 3, for
          levels of normal numbers.
    """

    bits: int = 4
    block_size: int | None = 128
    levels: str | None = None
    rotate: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check_integer("bits", self.bits, least=1)
        if self.block_size is not None:
            _check_integer("block_size", self.block_size, least=1)
        _check_choice("levels", self.levels, None, "uniform", "normal")
        most = {"uniform": 8, "normal": 4}[self.spacing]
        if self.bits > most:
            raise ValueError(
                f"`bits` must not exceed {most} with levels={self.spacing!r}. "
                f"Received: bits={self.bits}"
            )
        _check_integer("seed", self.seed, least=0)

    @property
    def spacing(self) -> str:
        """The levels, where `levels` is None as well."""
        return self.levels or ("normal" if self.bits <= 3 else "uniform")


@dataclass(frozen=True)
class EntropyCodingConfig:
    """Round all numbers of a matrix to integers, which are entropy coded on disk.

    An integer takes the fewer bits on disk, the more often it occurs, and a byte in
    memory. Of normal numbers at 3 bits, that leaves two thirds of the squared error
    that as many bits for each number leave. With calibration data, the errors of a
    Dense layer are made up for by the weights that are rounded after, and the steps of
    its inputs are such that the last bit does as much for each.

    Args:
        bits: Mean bits of a number on disk, above 0, up to 6. Rows of which more
            depends take more of them.

    Example:

    >>> from keras_messi import EntropyCodingConfig
    >>> EntropyCodingConfig(bits=2.5)
    EntropyCodingConfig(bits=2.5)

    Reference:
        - [Gish and Pierce, 1968](https://doi.org/10.1109/TIT.1968.1054193)
        - [Frantar et al., 2023](https://arxiv.org/abs/2210.17323), for the feedback.
    """

    bits: float = 3.0

    def __post_init__(self) -> None:
        if not (isinstance(self.bits, Real) and 0 < self.bits <= _MOST_ENTROPY):
            raise ValueError(
                f"`bits` must be a number above 0, up to {_MOST_ENTROPY}. "
                f"Received: bits={self.bits!r}"
            )


@dataclass(frozen=True)
class BudgetConfig:
    """Make a model fit into so many bytes, so that its outputs change least.

    For each matrix, ways to store it are tried: all numbers, entropy coded, at 1 to 5
    bits, or factors around subspaces. The bytes are shared out so that the last one
    does as much everywhere. What counts is the error of the outputs of the layers on
    calibration data, and how much those of the model change by it; without data, on
    random inputs.

    Exactly one of the first two arguments is given.

    Args:
        max_bytes: Most bytes of the saved model: of the `.keras` file, or of the files
            of weights and config that `save_pretrained` writes.
        times_smaller: The same as a share: how often the new file fits into that of
            the model as it is.
        seed: Seed of clusterings.
        target: The format that the model will be exported to, `"onnx"` or `"litert"`.
            Then only ways to store a matrix are tried that files of that format have as
            well, and that its runtime is fast with: 8 or 4 bits a number, one scale for
            each unit, and tables in factors of 4 bits. So the exported file is about as
            small. None is for the smallest `.keras` file or folder.

    Example:

    >>> from keras_messi import BudgetConfig
    >>> BudgetConfig(times_smaller=10).bytes_for(1_000_000)
    100000
    """

    max_bytes: int | None = None
    times_smaller: float | None = None
    seed: int = 0
    target: str | None = None

    def __post_init__(self) -> None:
        _check_choice("target", self.target, None, "onnx", "litert")
        _check_one_of("max_bytes", self.max_bytes, "times_smaller", self.times_smaller)
        if self.max_bytes is not None:
            _check_integer("max_bytes", self.max_bytes, least=1)
        times = self.times_smaller
        if times is not None and not (isinstance(times, Real) and 1 < times < 1e6):
            raise ValueError(
                "`times_smaller` must be a number above 1. "
                f"Received: times_smaller={times!r}"
            )
        _check_integer("seed", self.seed, least=0)

    def bytes_for(self, size: int) -> int:
        """Most bytes of the new file for a model whose file has so many."""
        if self.max_bytes is not None:
            return self.max_bytes
        return floor(size / float(self.times_smaller or 1))


Config = MessiConfig | PQConfig | RoundingConfig | EntropyCodingConfig | BudgetConfig


def _check_one_of(name: str, value: Any, other: str, other_value: Any) -> None:
    if (value is None) == (other_value is None):
        raise ValueError(
            f"Exactly one of `{name}` and `{other}` must be given. "
            f"Received: {name}={value}, {other}={other_value}"
        )


def _check_choice(name: str, value: Any, *choices: Any) -> None:
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={value!r}"
        )


def _check_rate(rate: float) -> None:
    if not isinstance(rate, Real):
        raise ValueError(f"`rate` must be a number. Received: rate={rate!r}")
    if not 0 < rate < 1:
        raise ValueError(
            "`rate` is the share of the numbers to remove and must lie strictly "
            f"between 0 and 1. Received: rate={rate}"
        )


def _check_integer(name: str, value: Any, least: int, other: str = "") -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}"
            f"{other and ' or ' + other}. Received: {name}={value!r}"
        )
