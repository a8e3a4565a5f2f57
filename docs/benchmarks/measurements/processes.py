"""Memory of a process of its own. Linux only: reads /proc/self."""

import multiprocessing
import re
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path


def in_fresh_process(function, *arguments):
    """What the call returns, made in a process that has done nothing before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def status_mb(field: str) -> float:
    """A size in /proc/self/status, in MB of 10^6 bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.M)[1]) * 1024 / 1e6


def forget_peak() -> None:
    """Let the peak of the resident size, VmHWM, start again from the present size."""
    Path("/proc/self/clear_refs").write_text("5")


class AnonymousPeak:
    """The largest anonymous memory while inside: what is not a mapped file."""

    def __init__(self, interval: float = 0.05):
        self.mb = 0.0
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while True:
            self.mb = max(self.mb, status_mb("RssAnon"))
            if self._done.wait(self._interval):
                return
