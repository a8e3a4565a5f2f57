"""Compressed models where they run: bytes, time, memory, and what exporting costs.

    KPROJCLUST_DATA=folder python docs/benchmarks/deployment.py [--networks ...]

Each model is saved, exported, and run by one thread and by two, in turn with the file
of the uncompressed model; the time is the median of the ratios. Beside stand the files
that the runtime itself makes smaller. Rows are written to deployment.csv as they come;
a second call goes on where the first one stopped. Each call writes deployment.md and
its pictures.
"""

import argparse
import sys
import tempfile
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "experiments"))
from deployment_files import BASELINES, KINDS  # noqa: E402
from deployment_memory import memory_mb  # noqa: E402
from deployment_networks import NETWORKS, Network  # noqa: E402
from deployment_page import write_page  # noqa: E402
from deployment_rows import UNCOMPRESSED, Result, Trial  # noqa: E402
from deployment_runtimes import RUNTIMES, Batch, Run  # noqa: E402
from rows import Rows  # noqa: E402

from keras_messi.models.adapter import family_of  # noqa: E402

ROUNDS = 11
SECONDS = 0.02  # of each measurement, at least


class Exported(NamedTuple):
    """A file, and the seconds that writing it took."""

    path: Path
    seconds: float


class Exports:
    """Models and files of one call, made once each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cache  # noqa: B019
    def model(self, network: str, form: str) -> Any:
        """A network in a form."""
        if form == UNCOMPRESSED:
            return NETWORKS[network].build()
        return NETWORKS[network].forms[form](self.model(network, UNCOMPRESSED))

    @cache  # noqa: B019
    def model_score(self, network: str, form: str) -> float:
        """The score of a network in a form."""
        return scored(NETWORKS[network], of_model(self.model(network, form)))

    @cache  # noqa: B019
    def file(self, trial: Trial) -> Exported:
        """The file of a trial."""
        model, kind = self.model(trial.network, trial.form), KINDS[trial.kind]
        path = self.folder / f"{len(list(self.folder.iterdir()))}{kind.suffix}"
        start = time.perf_counter()
        kind.write(model, path)
        return Exported(path, time.perf_counter() - start)

    def opened(self, trial: Trial, threads: int) -> Run:
        """What runs the file of a trial."""
        path = self.file(trial).path
        return RUNTIMES[path.suffix].open(path, threads)


def milliseconds(run: Run, batch: Batch) -> float:
    """Mean time of calls that take long enough together."""
    start, calls, passed = time.perf_counter(), 0, 0.0
    while not calls or passed < SECONDS:
        run(batch)
        calls, passed = calls + 1, time.perf_counter() - start
    return 1000 * passed / calls


def compared(run: Run, plain: Run, batch: Batch, rounds: int) -> tuple[float, float]:
    """Median time of one file, and of the ratios to another that runs in turn."""
    times = np.array(
        [[milliseconds(x, batch) for x in (run, plain)] for _ in range(rounds)]
    )
    return float(np.median(times[:, 0])), float(np.median(times[:, 0] / times[:, 1]))


def times_of(trial: Trial, exports: Exports, rounds: int) -> list[float]:
    """Times and ratios, in the order in which a result has them."""
    plain = Trial(trial.network, UNCOMPRESSED, BASELINES[trial.kind])
    inputs, found = NETWORKS[trial.network].inputs, []
    for threads, size in product((1, 2), (1, 32)):
        runs = [exports.opened(x, threads) for x in (trial, plain)]
        found += compared(*runs, inputs(size), rounds)
    return found


def of_model(model: Any) -> Run:
    """What runs a model."""

    def run(batch: Batch) -> np.ndarray:
        if isinstance(model, keras.Model):
            values = list(batch.values())
            return keras.ops.convert_to_numpy(
                model(values[0] if len(values) == 1 else values)
            )
        return model(batch).last_hidden_state.numpy()

    return run


def scored(network: Network, run: Run) -> float:
    """The score of a network, NaN if it has none."""
    return float("nan") if network.score is None else network.score(run)


def measure(trial: Trial, exports: Exports, rounds: int) -> Result:
    """Export, run and compare."""
    network = NETWORKS[trial.network]
    model = exports.model(trial.network, trial.form)
    file, run = exports.file(trial), exports.opened(trial, threads=2)
    batch = network.inputs(32)
    want, got = of_model(model)(batch), run(batch)
    return Result(
        family_of(model).saved_size(model),
        file.path.stat().st_size,
        file.seconds,
        memory_mb(file.path, network.inputs(1)),
        *times_of(trial, exports, rounds),
        float(np.linalg.norm(got - want) / np.linalg.norm(want)),
        exports.model_score(trial.network, trial.form),
        scored(network, run),
    )


def trials(networks: list[str]) -> list[Trial]:
    """All rows of the table."""
    found = []
    for name in networks:
        for kind in KINDS:
            if KINDS[kind].is_rival or kind in BASELINES.values():
                found.append(Trial(name, UNCOMPRESSED, kind))
        for form in NETWORKS[name].forms:
            found += [
                Trial(name, form, kind)
                for kind in KINDS
                if kind in BASELINES.values()
                or (form == NETWORKS[name].all_kinds and not KINDS[kind].is_rival)
            ]
    return found


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="times of each file")
    parser.add_argument("--folder", type=Path, default=HERE, help="of page and rows")
    options = parser.parse_args()
    rows = Rows(options.folder / "deployment.csv", Trial, Result)
    with tempfile.TemporaryDirectory() as folder:
        exports = Exports(Path(folder))
        for trial in trials(list(options.networks)):
            rows.complete([trial], lambda x: measure(x, exports, options.rounds))
            write_page(rows.results, options.folder, options.rounds)


if __name__ == "__main__":
    main()
