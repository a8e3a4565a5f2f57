"""Second moments after any moves of rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from kprojclust._engine.moments import Moments, moments_by_cluster, moved_moments
from kprojclust._rows.state import RowState

N, D, K = 12, 3, 3
whole = st.integers(-3, 3).map(float)


def state_of(labels, weights):
    nothing = np.zeros(N)
    return RowState(weights, labels, nothing, nothing, weights)


@given(
    arrays(np.float64, (N, D), elements=whole),
    st.lists(arrays(np.intp, N, elements=st.integers(0, K - 1)), min_size=1),
    arrays(np.float64, N, elements=st.sampled_from([0.0, 1.0, 4.0])),
    st.one_of(st.none(), arrays(np.float64, D, elements=whole)),
)
def test_moments_after_any_moves_are_those_built_anew(X, moves, weights, origin):
    moments = moments_by_cluster(X, weights, moves[0], K, origin)
    for before, after in zip(moves, moves[1:], strict=False):
        states = state_of(before, weights), state_of(after, weights)
        moments = moments + moved_moments(X, *states, K, origin)
    none = Moments.zeros(range(K), D)
    anew = none + moments_by_cluster(X, weights, moves[-1], K, origin)
    for found, true in zip(none + moments, anew, strict=True):
        assert_allclose(found, true, atol=1e-9)
