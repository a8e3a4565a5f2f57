"""The maximum of a function of integers by few calls."""

import math
from collections.abc import Callable


def bisect_maximum(
    function: Callable[[int], float], most: int, max_calls: int
) -> dict[int, float]:
    """Values of a function of 1 to `most` on the way to its maximum, 1 among them.

    Where the function rises up to its maximum and falls beyond, and the calls suffice,
    the maximum is among them.
    """
    values = {1: function(1)}
    low, best, high = 0, 1, most + 1  # the maximum is between low and high
    while high - low > 2 and len(values) < max_calls:
        is_lower_wider = best - low > 1 and best**2 >= low * high
        start, end = (low, best) if is_lower_wider else (best, high)
        middle = min(max(round(math.sqrt(start * end)), start + 1), end - 1)
        values[middle] = function(middle)
        if values[middle] > values[best]:
            low, best, high = start, middle, end
        elif is_lower_wider:
            low = middle
        else:
            high = middle
    return values
