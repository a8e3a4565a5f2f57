"""Allocation of a budget of bytes to the candidates of all layers."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_messi.allocation.candidates import Candidate


def allocate_bytes(
    candidates: Mapping[str, Sequence[Candidate]],
    worth: Mapping[str, float],
    num_bytes: int,
) -> dict[str, Candidate]:
    """Choose a candidate for each layer, so that the sum of errors is small.

    For a Lagrange multiplier, each layer takes the candidate of the least sum of its
    error and the multiplier times its bytes. The multiplier is the smallest that the
    budget allows; bytes that are left then buy what gains most for each.

    Args:
        candidates: Candidates of each layer by name, in rising order of bytes and
            falling order of errors.
        worth: How much the error of each layer counts, by name.
        num_bytes: The budget.

    Returns:
        A candidate by name.

    Raises:
        ValueError: Not even the smallest candidates fit.
    """
    least = sum(options[0].num_bytes for options in candidates.values())
    if least > num_bytes:
        raise BudgetTooSmall(least - num_bytes)
    low, high = -60.0, 60.0  # logarithms of multipliers: too low, high enough
    for _ in range(60):
        middle = (low + high) / 2
        taken = _taken(candidates, worth, np.exp(middle))
        if _size(taken) <= num_bytes:
            high = middle
        else:
            low = middle
    return _filled_up(
        candidates, worth, _taken(candidates, worth, np.exp(high)), num_bytes
    )


class BudgetTooSmall(ValueError):
    """Some bytes are missing even for the smallest candidates."""

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing} bytes are missing")
        self.missing = missing


def _taken(
    candidates: Mapping[str, Sequence[Candidate]],
    worth: Mapping[str, float],
    multiplier: float,
) -> dict[str, Candidate]:
    """What each layer takes at a price of a byte."""
    return {
        name: min(
            options, key=lambda x: worth[name] * x.error + multiplier * x.num_bytes
        )
        for name, options in candidates.items()
    }


def _size(taken: Mapping[str, Candidate]) -> int:
    return sum(one.num_bytes for one in taken.values())


def _filled_up(
    candidates: Mapping[str, Sequence[Candidate]],
    worth: Mapping[str, float],
    taken: dict[str, Candidate],
    num_bytes: int,
) -> dict[str, Candidate]:
    """The same with better candidates for what is left of the budget."""
    taken, left = dict(taken), num_bytes - _size(taken)
    while True:
        steps = [
            (worth[name] * _gain(own, x), name, x)
            for name, own in taken.items()
            for x in candidates[name]
            if 0 < x.num_bytes - own.num_bytes <= left and x.error < own.error
        ]
        if not steps:
            return taken
        _, name, better = max(steps, key=lambda step: step[0])
        left -= better.num_bytes - taken[name].num_bytes
        taken[name] = better


def _gain(own: Candidate, better: Candidate) -> float:
    """Error that each byte more removes."""
    return (own.error - better.error) / (better.num_bytes - own.num_bytes)
