"""What the arguments of layers must be."""

from collections.abc import Iterable
from typing import Any

import numpy as np


def check_positive(name: str, value: Any) -> None:
    """Raise ValueError unless a value is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}"
        )


def check_seed(name: str, value: Any) -> None:
    """Raise ValueError unless a value is a seed: an integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(
            f"`{name}` must be an integer of at least 0. Received: {name}={value!r}"
        )


def check_choice(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise ValueError unless a value is one of those allowed."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {allowed}. Received: {name}={value!r}"
        )


def divisors(number: int) -> list[int]:
    """All divisors of a number, in order."""
    return [x for x in range(1, number + 1) if number % x == 0]
