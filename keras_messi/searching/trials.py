"""What a search has tried, kept in memory and in a folder."""

import glob
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_messi.files import replaced_atomically, save_text
from keras_messi.models.adapter import Family
from keras_messi.report import CompressionReport

_ARGUMENTS = "search.json"
_ROWS = "trials.jsonl"
_CLUSTERINGS = "clusterings.npz"


@dataclass(frozen=True)
class Trial:
    """One number of subspaces tried at one rate.

    Attributes:
        rate: Share of the numbers to remove.
        num_clusters: Number of subspaces k.
        seconds: What compressing and scoring took.
        score: The higher, the better; None if the trial failed.
        parameters: Numbers in the weights of the whole model; None if there is none.
        bytes: Bytes of all its weights as stored on disk; None if there is none.
        error: Why the trial failed, or nothing.
    """

    rate: float
    num_clusters: int
    seconds: float
    score: float | None = None
    parameters: int | None = None
    bytes: int | None = None
    error: str = ""

    @property
    def merit(self) -> float:
        """The score, or minus infinity if the trial failed."""
        return -np.inf if self.score is None else self.score


@dataclass(frozen=True)
class Candidate:
    """A trial, and the model and `CompressionReport` that came of it, if any."""

    trial: Trial
    model: Any = field(repr=False)
    report: Any = field(repr=False)


class TrialLog:
    """The trials of a search, and the best model of each rate.

    In a folder, a model comes before the row that names it, and each file takes its
    place at once: the process may end at any time.

    Args:
        family: How models are saved and loaded.
        arguments: What defines the search, ready for JSON.
        folder: Where to keep everything, and to take up a search with the same
            arguments; None keeps it in memory only.

    Raises:
        ValueError: The folder holds another search, or something else.
    """

    def __init__(
        self, family: Family, arguments: dict[str, Any], folder: Path | None
    ) -> None:
        self.trials: list[Trial] = []
        self.clusterings: dict[str, np.ndarray] = {}
        self._best: dict[float, Candidate] = {}
        self._family = family
        self._folder = folder
        if folder is not None:
            self._open(folder, json.dumps(arguments, indent=2))

    def find(self, rate: float, num_clusters: int) -> Trial | None:
        """The trial of that rate and number of subspaces, if there is one."""
        wanted = (rate, num_clusters)
        same = (x for x in self.trials if (x.rate, x.num_clusters) == wanted)
        return next(same, None)

    def add(self, candidate: Candidate) -> Trial:
        """Keep a trial; if it is the best of its rate, its model and report, too."""
        trial = candidate.trial
        old = self._best_trial(trial.rate)
        self.trials.append(trial)
        is_best = self._best_trial(trial.rate) is trial
        if is_best:
            self._best[trial.rate] = candidate
        if self._folder is not None:
            if is_best:
                self._save_model(self._folder, candidate)
            self._save_rows(self._folder)
            if is_best and old is not None:
                _remove_files(self._folder, _name(old))
        return trial

    def best(self, rate: float) -> Candidate | None:
        """The best model of a rate; None if all its trials failed."""
        trial = self._best_trial(rate)
        if trial is None:
            return None
        if rate not in self._best and self._folder is not None:
            self._best[rate] = self._load_model(self._folder, trial)
        return self._best[rate]

    def _best_trial(self, rate: float) -> Trial | None:
        scored = [x for x in self.trials if x.rate == rate and x.score is not None]
        return max(scored, key=lambda x: (x.score, -x.num_clusters), default=None)

    def _open(self, folder: Path, arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        known = folder / _ARGUMENTS
        if known.exists():
            _check_same(folder, known.read_text(encoding="utf-8"), arguments)
        elif any(folder.iterdir()):
            raise ValueError(
                "`folder` must be empty, new, or that of an earlier search. "
                f"Received: folder={str(folder)!r}, without {_ARGUMENTS}"
            )
        else:
            save_text(arguments, known)
        if (folder / _CLUSTERINGS).exists():
            with np.load(folder / _CLUSTERINGS) as arrays:
                self.clusterings |= arrays
        if (folder / _ROWS).exists():
            rows = (folder / _ROWS).read_text(encoding="utf-8").splitlines()
            self.trials = [Trial(**json.loads(row)) for row in rows]

    def _save_rows(self, folder: Path) -> None:
        with replaced_atomically(folder / _CLUSTERINGS) as partial:
            np.savez_compressed(partial, **self.clusterings)  # type: ignore[arg-type]
        rows = [json.dumps(asdict(trial)) for trial in self.trials]
        save_text("\n".join(rows), folder / _ROWS, overwrite=True)

    def _save_model(self, folder: Path, best: Candidate) -> None:
        name = _name(best.trial)
        _remove_files(folder, name)  # of a process that ended before it wrote the row
        self._family.save(best.model, self._model_path(folder, name), None, False)
        save_text(best.report.to_json(), folder / f"{name}.json")

    def _load_model(self, folder: Path, trial: Trial) -> Candidate:
        name = _name(trial)
        model = self._family.load(self._model_path(folder, name))
        report = (folder / f"{name}.json").read_text(encoding="utf-8")
        return Candidate(trial, model, CompressionReport.from_json(report))

    def _model_path(self, folder: Path, name: str) -> Path:
        return folder / f"{name}{self._family.suffix}"


def _name(trial: Trial) -> str:
    """Name of the files of a model, without what follows the last dot."""
    return f"rate-{trial.rate}-k-{trial.num_clusters}"


def _remove_files(folder: Path, name: str) -> None:
    for path in [folder / name, *folder.glob(f"{glob.escape(name)}.*")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _check_same(folder: Path, known: str, received: str) -> None:
    """Raise ValueError, naming what differs, unless the arguments are the same."""
    old, new = json.loads(known), json.loads(received)
    differences = [
        f"{name}={old.get(name)!r} there and {name}={new.get(name)!r} here"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise ValueError(
            "`folder` holds another search; take a new folder for this one. Received: "
            f"folder={str(folder)!r}, with {', '.join(differences)}"
        )
