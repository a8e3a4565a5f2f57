"""The choice of k for a rate: the paper's ensemble."""

import hashlib
import math
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

from tqdm import tqdm

from keras_messi.allocation.planning import reasons_to_skip
from keras_messi.compression import calibrate, compress
from keras_messi.configs import MessiConfig
from keras_messi.layers.kinds import has_matrix, matrix_shape, read_matrix
from keras_messi.methods.registry import reason_to_skip
from keras_messi.methods.subspaces.bisection import bisect_maximum
from keras_messi.methods.subspaces.clustering import fingerprint, shared_clusterings
from keras_messi.models.adapter import family_of
from keras_messi.models.keras.surgery import Filters, NamedLayer, matches
from keras_messi.report import CompressionReport, format_table
from keras_messi.searching.trials import Candidate, Trial, TrialLog

Score = Callable[[Any], float]

# Share of the numbers to compress that a large k may leave as they are.
_NEGLIGIBLE = 0.01


@dataclass(frozen=True)
class SearchResult:
    """What `search` found.

    Attributes:
        trials: Each `Trial`, failed ones among them, in the order of the search.
        best: For each rate the `Candidate` of the highest score, with `model`, `report`
            and `trial`; without the rates at which all trials failed.
    """

    trials: list[Trial]
    best: dict[float, Candidate]

    @property
    def model(self) -> Any:
        """The model of the highest score at any rate; of equal ones the smallest."""
        return self._highest().model

    @property
    def report(self) -> CompressionReport:
        """The report on that model."""
        return self._highest().report

    def _highest(self) -> Candidate:
        return max(self.best.values(), key=lambda x: (x.trial.score, x.trial.rate))

    def __str__(self) -> str:
        best = [candidate.trial for candidate in self.best.values()]
        heading = ["rate", "k", "score", "parameters", "bytes", "seconds", ""]
        rows = [
            [*_cells(trial), "best" if trial in best else trial.error]
            for trial in sorted(self.trials, key=lambda x: (x.rate, x.num_clusters))
        ]
        return format_table([heading, *rows])


def search(
    model: Any,
    config: MessiConfig,
    score: Score | None = None,
    *,
    rates: Sequence[float] | None = None,
    filters: Filters = None,
    calibration_data: Any = None,
    max_clusters: int = 32,
    max_trials: int = 8,
    folder: str | os.PathLike[str] | None = None,
    verbose: bool = False,
) -> SearchResult:
    """Find the number of subspaces that serves a model best, for one or more rates.

    For each rate, k = 1 (the singular value decomposition) is tried, then others: the
    range in which the best k must be, if the score rises up to it and falls beyond, is
    cut in the middle of its wider part, on a logarithmic scale. A layer starts with the
    clusters that it had with the same k at the rate before.

    Args:
        model: A model that `compress` takes. It is left as it is.
        config: What to do with each layer; its `num_clusters` is what is searched for.
        score: A function of a compressed model; the higher, the better. It may train
            the model that it is given, which is kept as it leaves it. Without it, the
            score is one minus the mean error of the layers replaced: of their outputs
            if there are calibration data, else of their matrices. A trial whose score
            raises an error, or is not finite, counts as the worst.
        rates: Shares of the numbers to remove, instead of that of the config.
        filters: Which layers, as for `compress`.
        calibration_data: As for `compress`.
        max_clusters: The largest k. It is less where a rate leaves no rank for it in
            layers that could be compressed with k = 1, but for 1 % of their numbers.
        max_trials: The largest number of models for each rate.
        folder: Where to write each trial as it comes, a row of `trials.jsonl`, and the
            best model of each rate. A search with the same arguments goes on from
            there; that the data, the layers not compressed and what the score computes
            are the same, too, is taken for granted.
        verbose: Whether to show a progress bar on stderr.

    Returns:
        A `SearchResult`; print it for a table of the trials.

    Raises:
        ValueError: An argument is out of range, the model is not built, weights are not
            finite, the folder holds another search, or all trials failed.

    Example:

    >>> import keras, keras_messi
    >>> model = keras.Sequential(
    ...     [keras.Input((784,)), keras.layers.Dense(300), keras.layers.Dense(10)]
    ... )
    >>> config = keras_messi.MessiConfig(rate=0.9)
    >>> result = keras_messi.search(model, config, max_clusters=3)
    >>> result.trials[0].num_clusters, result.best[0.9].trial.rate
    (1, 0.9)

    Reference:
        - [Maalouf et al., 2021](https://arxiv.org/abs/2010.04290), Appendix D.
    """
    rates = _check_rates(config, rates)
    _check_at_least_1(max_clusters=max_clusters, max_trials=max_trials)
    family = family_of(model)
    every = family.find_layers(model)
    layers = [x for x in every if matches(x, filters)]
    arguments = {
        "model": _fingerprint(layers),
        "config": repr(replace(config, rate=rates[0], num_clusters=1)),
        "rates": rates,
        "score": None if score is None else getattr(score, "__qualname__", "function"),
        "calibration_data": type(calibration_data).__name__,
        "max_clusters": max_clusters,
        "max_trials": max_trials,
    }
    log = TrialLog(family, arguments, None if folder is None else Path(folder))
    if calibration_data is not None:
        calibration_data = calibrate(model, calibration_data, filters)

    def attempt(rate: float, k: int) -> Candidate:
        one = replace(config, rate=rate, num_clusters=k)
        start = time.perf_counter()
        small, report, outcome = _attempt(
            model, one, score, filters=filters, calibration_data=calibration_data
        )
        seconds = round(time.perf_counter() - start, 3)
        return Candidate(Trial(rate, k, seconds, **outcome), small, report)

    with (
        shared_clusterings(log.clusterings),
        tqdm(
            desc="search",
            unit="model",
            total=len(rates) * max_trials,
            disable=not verbose,
        ) as bar,
    ):
        for rate in rates:
            one = replace(config, rate=rate)
            most = _most_clusters(every, filters, one, max_clusters)
            _search_rate(log, partial(attempt, rate), rate, most, max_trials, bar)
    return _result(log, rates)


def _search_rate(
    log: TrialLog,
    attempt: Callable[[int], Candidate],
    rate: float,
    most: int,
    max_trials: int,
    bar: tqdm,
) -> None:
    """Try numbers of subspaces at one rate, but for those that the log knows."""

    def merit(k: int) -> float:
        bar.set_postfix(rate=rate, k=k)
        trial = log.find(rate, k) or log.add(attempt(k))
        bar.update()
        return trial.merit

    tried = bisect_maximum(merit, most, max_trials)
    bar.update(max_trials - len(tried))


def _attempt(
    model: Any, config: MessiConfig, score: Score | None, **options: Any
) -> tuple[Any, CompressionReport | None, dict[str, Any]]:
    """Compress a model and score it: the model, its report, what the trial tells."""
    try:
        small, report = compress(model, config, **options)
    except ValueError as error:
        return None, None, {"error": f"compress: {error}"}
    return small, report, _outcome(small, report, score)


def _outcome(
    small: Any, report: CompressionReport, score: Score | None
) -> dict[str, Any]:
    """What a trial tells of a compressed model: its size, and its score or an error."""
    sizes = {"parameters": report.parameters_after, "bytes": report.bytes_after}
    try:
        value = float(score(small)) if score else _share_kept(report)
    except Exception as error:  # the caller's code may raise anything
        return {**sizes, "error": f"score: {type(error).__name__}: {error}"}
    if not math.isfinite(value):
        return {**sizes, "error": f"score: {value}"}
    return {**sizes, "score": value}


def _share_kept(report: CompressionReport) -> float:
    """Share of what the layers compute that is kept, on average.

    That is the squared length of the outputs on calibration data where there are such
    data, of the matrices elsewhere.
    """
    errors = [layer.error for layer in report.replaced]
    return 1 - sum(errors) / len(errors)


def _check_rates(config: MessiConfig, rates: Sequence[float] | None) -> list[float]:
    """The rates, each once, or that of the config."""
    if not isinstance(config, MessiConfig):
        raise ValueError(
            "`config` must be a MessiConfig, whose number of subspaces is searched "
            f"for. Received: config={config}"
        )
    if config.rate is None:
        raise ValueError(
            "`config` must have a rate, for models of one size whatever k is. "
            f"Received: config={config}"
        )
    if rates is None:
        return [config.rate]
    if not rates:
        raise ValueError(f"`rates` must not be empty. Received: rates={rates}")
    for rate in rates:
        replace(config, rate=rate)  # raises ValueError if it is out of range
    return list(dict.fromkeys(map(float, rates)))


def _check_at_least_1(**arguments: int) -> None:
    for name, value in arguments.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"`{name}` must be an integer of at least 1. Received: {name}={value!r}"
            )


def _most_clusters(
    layers: list[NamedLayer], filters: Filters, config: MessiConfig, limit: int
) -> int:
    """Largest k, up to a limit, that leaves out no layer that k = 1 would compress."""
    alone = replace(config, num_clusters=1)
    reasons = reasons_to_skip(layers, alone, filters)
    sizes = {
        named.layer: math.prod(matrix_shape(named.layer))
        for named in layers
        if named.path not in reasons
    }

    def leaves_out_much(k: int) -> bool:
        several = replace(config, num_clusters=k)
        left_out = [n for x, n in sizes.items() if reason_to_skip(x, several)]
        return sum(left_out) > _NEGLIGIBLE * sum(sizes.values())

    ks = range(1, limit + 1 if sizes else 2)
    return max(1, bisect_left(ks, True, key=leaves_out_much))


def _fingerprint(layers: list[NamedLayer]) -> str:
    """What tells the layers of a model, by path and weights, from those of others."""
    texts = [
        f"{x.path} {fingerprint(read_matrix(x.layer)) if has_matrix(x.layer) else ''}"
        for x in layers
    ]
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=8).hexdigest()


def _result(log: TrialLog, rates: list[float]) -> SearchResult:
    """The trials and the best of each rate.

    Raises:
        ValueError: All trials failed.
    """
    best = {rate: found for rate in rates if (found := log.best(rate))}
    if not best:
        errors = {(x.rate, x.num_clusters): x.error for x in log.trials}
        raise ValueError(
            f"No model could be compressed and scored. By rate and k: {errors}"
        )
    return SearchResult(log.trials, best)


def _cells(trial: Trial) -> list[str]:
    numbers = [trial.parameters, trial.bytes]
    return [
        f"{trial.rate:g}",
        f"{trial.num_clusters}",
        "-" if trial.score is None else f"{trial.score:.4f}",
        *("-" if number is None else f"{number:,}" for number in numbers),
        f"{trial.seconds:.1f}",
    ]
