"""Running a model on calibration data, and keeping what its layers receive."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from keras_messi._keras_internals import mask_of
from keras_messi.calibration.batches import (
    Inputs,
    input_batches,
    padding_mask,
    without_padding,
)
from keras_messi.calibration.observing import Observer, Run, is_integral
from keras_messi.calibration.outputs import float_outputs
from keras_messi.calibration.statistics import (
    CalibrationStatistics,
    InputSample,
    TokenCounts,
)

# Gives what observes some layers of a model: see `observing.observe_layers`.
Observe = Callable[[Any, Mapping[keras.Layer, Observer]], AbstractContextManager[Run]]

NUM_SAMPLES = 4096


def collect_statistics(
    model: Any,
    observe: Observe,
    layers: Mapping[str, keras.Layer],
    calibration_data: Any,
    *,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> CalibrationStatistics:
    """Run a model on data and keep what its layers receive.

    Padding is left out where the data says what it is: `attention_mask` or
    `padding_mask` in a batch that is a dict, the masks of Keras, and id 0 of an
    Embedding with `mask_zero`.

    Args:
        model: A built model. It is left as it is.
        observe: How models of its family are observed.
        layers: Layers of the model by path. Only Embedding and Dense are observed.
        calibration_data: Inputs of the model, as `batches.input_batches` takes them.
        num_samples: How many inputs of a Dense layer to keep, at most.
        seed: Seed of the choice of these.

    Raises:
        ValueError: The data can't be read, is empty or not finite; the model does not
            take it; ids are no integers or out of the vocabulary; or a layer receives
            what is not finite.
    """
    collectors: dict[keras.Layer, _Collector] = {}
    for path, layer in layers.items():
        if isinstance(layer, keras.layers.Embedding):
            collectors[layer] = _Collector(path, _Counts(layer))
        elif isinstance(layer, keras.layers.Dense):
            collectors[layer] = _Collector(path, _Reservoir(num_samples, seed))
    observers = {layer: x.observe for layer, x in collectors.items()}
    first = outputs = None
    with observe(model, observers) as run:
        for batch in input_batches(calibration_data):
            mask = padding_mask(batch)
            for collector in collectors.values():
                collector.mask = mask
            found = _run(run, batch, list(collectors.values()))
            if outputs is None:
                first, outputs = batch, float_outputs(found, mask)
    results = {x.path: x.kept.result() for x in collectors.values()}
    return CalibrationStatistics(
        {path: result for path, result in results.items() if result is not None},
        first,
        outputs,
    )


def _run(run: Run, batch: Inputs, collectors: list["_Collector"]) -> Any:
    try:
        outputs = run(batch)
    except Exception as error:  # the code of any model may raise anything
        _raise_problem(collectors, error)
        shapes = keras.tree.map_structure(lambda x: (x.shape, str(x.dtype)), batch)
        raise ValueError(
            f"`calibration_data` must be what the model takes. Received: {shapes}, on "
            f"which it raised {type(error).__name__}: {error}"
        ) from error
    _raise_problem(collectors, None)
    return outputs


def _raise_problem(collectors: list["_Collector"], error: Exception | None) -> None:
    """What the data is like that made a layer fail says more than how it failed."""
    for collector in collectors:
        if collector.problem:
            raise ValueError(collector.problem) from error


class _Collector:
    """Hands what one layer receives to what keeps it; never raises, but takes notes."""

    def __init__(self, path: str, kept: "_Counts | _Reservoir") -> None:
        self.path = path
        self.kept = kept
        self.mask: np.ndarray | None = None  # of the batch that the model runs on
        self.problem: str | None = None

    def observe(self, inputs: Any) -> None:
        """Keep what the layer is called on, unless something is wrong with it."""
        own_mask = mask_of(inputs)
        mask = self.mask if own_mask is None else own_mask
        values = without_padding(keras.ops.convert_to_numpy(inputs), mask)
        problem = self.kept.problem_of(values)
        if problem is None:
            self.kept.add(values)
        elif self.problem is None:
            self.problem = f"`calibration_data` {problem}. At layer '{self.path}'"


class _Counts:
    """Counts of ids."""

    def __init__(self, layer: keras.layers.Embedding) -> None:
        self.counts = np.zeros(layer.input_dim, np.int64)
        self.mask_zero = layer.mask_zero

    def problem_of(self, ids: np.ndarray) -> str | None:
        if not is_integral(ids):
            return f"must give token ids. Received: {ids.dtype} numbers that are none"
        outside = ids[(ids < 0) | (ids >= len(self.counts))]
        if outside.size:
            return (
                f"must give token ids in the vocabulary, from 0 to "
                f"{len(self.counts) - 1}. Received: {outside.flat[0]}"
            )
        return None

    def add(self, ids: np.ndarray) -> None:
        ids = ids.astype(np.int64).ravel()
        if self.mask_zero:
            ids = ids[ids != 0]
        self.counts += np.bincount(ids, minlength=len(self.counts))

    def result(self) -> TokenCounts | None:
        return TokenCounts(self.counts) if self.counts.any() else None


class _Reservoir:
    """A uniform sample of rows: those with the smallest of as many random keys."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self.rng = np.random.default_rng(seed)
        self.keys, self.rows = np.empty(0), np.empty((0, 0), np.float32)

    def problem_of(self, values: np.ndarray) -> str | None:
        wrong = np.sum(~np.isfinite(values))
        if wrong:
            return f"must give finite numbers. Received: {wrong} NaN or infinite values"
        return None

    def add(self, values: np.ndarray) -> None:
        rows = values.reshape(-1, values.shape[-1])
        keys = self.rng.random(len(rows))
        if len(self.keys) == self.num_samples:
            smaller = keys < self.keys[-1]
            rows, keys = rows[smaller], keys[smaller]
        keys = np.concatenate([self.keys, keys])
        kept = np.argsort(keys)[: self.num_samples]
        old = self.rows.reshape(-1, rows.shape[1])
        self.rows = np.concatenate([old, rows.astype(np.float32)])[kept]
        self.keys = keys[kept]

    def result(self) -> InputSample | None:
        return InputSample(self.rows) if len(self.rows) else None
