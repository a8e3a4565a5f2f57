"""What a compression method is to do, as frozen dataclasses."""

from dataclasses import dataclass
from fractions import Fraction
from math import floor
from numbers import Integral, Real


@dataclass(frozen=True)
class MessiConfig:
    """Replace a matrix by k clusters of rows, each on a subspace (MESSI).

    Exactly one of `rate` and `rank` is given.

    Args:
        rate: Share of a layer's numbers to remove, between 0 and 1: the compression
            rate of the paper. Each layer gets the rank
            `floor((1 - rate) d n / (n + num_clusters d))`, the largest of that rate.
        num_clusters: Number of subspaces k; 1 is the singular value decomposition.
        rank: Dimension j of every subspace, instead of a rate.
        seed: Seed of the clustering.

    Example:

    >>> from keras_messi import MessiConfig
    >>> MessiConfig(rate=0.4, num_clusters=5).rank_for(30522, 768)
    409

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290), Section 2 and
          Appendix D.
    """

    rate: float | None = None
    num_clusters: int = 5
    rank: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.rank is None):
            raise ValueError(
                "Exactly one of `rate` and `rank` must be given. "
                f"Received: rate={self.rate}, rank={self.rank}"
            )
        if self.rate is not None:
            _check_rate(self.rate)
        if self.rank is not None:
            _check_integer("rank", self.rank, least=1)
        _check_integer("num_clusters", self.num_clusters, least=1)
        _check_integer("seed", self.seed, least=0)

    def rank_for(self, n: int, d: int) -> int:
        """Rank of the subspaces for an (n, d) matrix; 0 if the rate allows none."""
        if self.rank is not None:
            return self.rank
        # The decimal that was meant, not its binary neighbour: 1 - 0.9 is a tenth.
        kept = 1 - Fraction(float(self.rate or 0)).limit_denominator(10**6)
        return floor(kept * d * n / (n + self.num_clusters * d))


def _check_rate(rate: float) -> None:
    if not isinstance(rate, Real):
        raise ValueError(f"`rate` must be a number. Received: rate={rate!r}")
    if not 0 < rate < 1:
        raise ValueError(
            "`rate` is the share of the numbers to remove and must lie strictly "
            f"between 0 and 1. Received: rate={rate}"
        )


def _check_integer(name: str, value: int, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. "
            f"Received: {name}={value!r}"
        )
