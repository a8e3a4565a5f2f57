"""Steps of rounding to integers, so that their entropy is as many bits as asked for."""

from collections.abc import Callable, Iterable

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped]

# Of integers that are stored as int16.
LARGEST = 32_767
# Numbers nearer to zero by this share of a step are rounded to the smaller integer, as
# it takes fewer bits.
_DEAD_ZONE = 0.1
# Of the logarithm of a step: about the bits by which a mean entropy may miss its goal.
_TOLERANCE = 0.01
# Powers of 2 that steps of rows differ by at most.
_OCTAVES = 24


def to_integers(numbers: np.ndarray) -> np.ndarray:
    """Integers for numbers in steps: the nearest, or a smaller one if about as near."""
    sizes = np.floor(np.abs(numbers) + (0.5 - _DEAD_ZONE))
    return (np.sign(numbers) * np.minimum(sizes, LARGEST)).astype(np.int16)


def dtype_for(tables: Iterable[np.ndarray]) -> str:
    """The smallest type of integers that holds those of all tables."""
    return "int8" if all(np.abs(x).max(initial=0) < 128 for x in tables) else "int16"


def exponents_for(steps: np.ndarray) -> np.ndarray:
    """How many quarters of a power of 2 steps are below the largest of them, int8.

    Args:
        steps: Positive numbers.
    """
    below = 4 * np.log2(steps.max() / steps)
    return np.round(np.minimum(below, 4 * _OCTAVES)).astype(np.int8)


def step_for(bits: float, bits_at: Callable[[float], float], largest: float) -> float:
    """The step at which integers take so many bits.

    Args:
        bits: Mean bits of an integer.
        bits_at: Mean bits at a step.
        largest: The number of the greatest size. Where the bits are not even taken at
            the smallest step at which it is an integer, that is the step.
    """
    high = np.log2(largest) + 1  # there is nothing but zeros
    low, least = high - 1, np.log2(largest / LARGEST)
    while low > least and bits_at(2.0**low) < bits:
        low, high = low - 1, low
    if low <= least:
        return float(2.0**least)
    found = brentq(lambda x: bits_at(2.0**x) - bits, low, high, xtol=_TOLERANCE)
    return float(2.0**found)
