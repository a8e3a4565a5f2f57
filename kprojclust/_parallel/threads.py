"""Threads of our own over parts of the rows: their number never changes a result.

BLAS and OpenMP add numbers up in an order that depends on how many threads they have.
Here they get one each, and parts of fixed size are spread over threads of ours; what
the parts return is combined in the order of the parts.
"""

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController

# Below so many numbers, handing out parts takes longer than the work.
_WORTH_SHARING = 2**19

_executor: ContextVar[Executor | None] = ContextVar("executor", default=None)


class _Limit:
    """BLAS and OpenMP on one thread for as long as anyone in the process needs it.

    They are limited for the whole process, so that only the first to come sets the
    limit, and only the last to go lifts it.
    """

    def __init__(self):
        self._lock = Lock()
        self._users = 0

    def __enter__(self):
        """Number of threads that BLAS had, 1 for all but the first to come."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return 1
            pools = _libraries().select(user_api="blas").info()
            self._limits = _libraries().limit(limits=1)
            return max((pool["num_threads"] for pool in pools), default=1)

    def __exit__(self, *exception):
        with self._lock:
            self._users -= 1
            if not self._users:
                self._limits.restore_original_limits()


_limit = _Limit()


@cache
def _libraries():
    return ThreadpoolController()


@contextmanager
def own_threads(n_numbers):
    """Inside, ``parallel_map`` has the threads that BLAS may use, and BLAS has one.

    Parameters
    ----------
    n_numbers : int
        Size of the data to work on: for little data there is one thread.
    """
    if _executor.get() is not None:
        yield
        return
    with _limit as n_threads:
        shared = n_threads > 1 and n_numbers >= _WORTH_SHARING
        with ThreadPoolExecutor(n_threads) if shared else nullcontext() as executor:
            token = _executor.set(executor)
            try:
                yield
            finally:
                _executor.reset(token)


def parallel_map(function, *items):
    """List of ``function(item, ...)`` in the order of the items, as of ``map``."""
    executor = _executor.get()
    if executor is None:
        return list(map(function, *items))
    return list(executor.map(function, *items))
