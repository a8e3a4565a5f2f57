"""The bisection alone, on functions that are known."""

from hypothesis import given
from hypothesis import strategies as st

from keras_messi.methods.subspaces.bisection import bisect_maximum

numbers = st.integers(1, 200)


@st.composite
def unimodal(draw):
    """Values that rise strictly up to one of them, and fall strictly beyond."""
    peak, most = sorted((draw(numbers), draw(numbers)))
    steps = draw(st.lists(st.floats(0.01, 10), min_size=most, max_size=most))
    values = {peak: 0.0}
    for k in range(peak - 1, 0, -1):
        values[k] = values[k + 1] - steps[k]
    for k in range(peak + 1, most + 1):
        values[k] = values[k - 1] - steps[k - 1]
    return values


def calls_of(values, most, max_calls):
    calls = []
    tried = bisect_maximum(lambda k: calls.append(k) or values[k], most, max_calls)
    assert list(tried) == calls  # never one twice
    assert tried == {k: values[k] for k in calls}
    return calls


@given(unimodal())
def test_it_finds_the_maximum_that_a_full_scan_finds(values):
    calls = calls_of(values, len(values), max_calls=len(values))
    assert max(values, key=values.get) in calls


@given(unimodal(), st.integers(1, 10))
def test_it_tries_one_first_and_no_more_than_it_may(values, max_calls):
    calls = calls_of(values, len(values), max_calls)
    assert calls[0] == 1
    assert len(calls) <= max_calls


@given(unimodal())
def test_it_needs_few_calls(values):
    assert len(calls_of(values, len(values), max_calls=200)) <= 24


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=60))
def test_any_function_is_tried_within_its_range(scores):
    values = dict(enumerate(scores, start=1))
    assert set(calls_of(values, len(values), max_calls=60)) <= set(values)


def test_the_middle_is_that_of_the_ratios():
    assert calls_of({k: -abs(k - 6) for k in range(1, 65)}, 64, 4) == [1, 8, 23, 3]
