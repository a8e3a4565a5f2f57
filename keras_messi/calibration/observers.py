"""Running a model on calibration data, and what is kept of what its layers receive."""

from collections.abc import Callable, Iterator, Mapping
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
    InputMoments,
    TokenCounts,
)

# Gives what observes some layers of a model: see `observing.observe_layers`.
Observe = Callable[[Any, Mapping[keras.Layer, Observer]], AbstractContextManager[Run]]

# Inputs of a layer up to which it is known how they go together: their covariance then
# takes 256 MB.
MOST_INPUTS = 8192


def collect_statistics(
    model: Any,
    observe: Observe,
    layers: Mapping[str, keras.Layer],
    calibration_data: Any,
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

    Raises:
        ValueError: The data can't be read, is empty or not finite; the model does not
            take it; ids are no integers or out of the vocabulary; or a layer receives
            what is not finite.
    """
    kept: dict[keras.Layer, _Counts | _Moments] = {}
    for layer in layers.values():
        if isinstance(layer, keras.layers.Embedding):
            kept[layer] = _Counts(layer)
        elif isinstance(layer, keras.layers.Dense):
            kept[layer] = _Moments()
    collectors = {
        layer: _Collector(path, kept[layer])
        for path, layer in layers.items()
        if layer in kept
    }
    first = outputs = None
    for batch, found in _outputs(model, observe, collectors, calibration_data):
        if outputs is None:
            first, outputs = batch, float_outputs(found, padding_mask(batch))
    results = {x.path: kept[layer].result() for layer, x in collectors.items()}
    return CalibrationStatistics(
        {path: result for path, result in results.items() if result is not None},
        first,
        outputs,
    )


def received(
    model: Any,
    observe: Observe,
    layers: Mapping[str, keras.Layer],
    calibration_data: Any,
) -> dict[str, np.ndarray]:
    """All that some Dense layers of a model receive, by the path of the layer.

    Args:
        model: As for `collect_statistics`.
        observe: Likewise.
        layers: Dense layers of the model by path.
        calibration_data: Inputs of the model.

    Returns:
        Float32 arrays of shape `(count, inputs)`, without padding; layers that nothing
        reached are missing.
    """
    kept = {path: _Rows() for path in layers}
    collectors = {x: _Collector(path, kept[path]) for path, x in layers.items()}
    for _ in _outputs(model, observe, collectors, calibration_data):
        pass
    return {path: np.concatenate(x.rows) for path, x in kept.items() if x.rows}


def moments_of(rows: np.ndarray) -> InputMoments:
    """Moments of inputs, of shape `(count, inputs)`, of which there must be some."""
    moments = _Moments()
    moments.add(rows)
    found = moments.result()
    assert found is not None
    return found


def _outputs(
    model: Any,
    observe: Observe,
    collectors: Mapping[keras.Layer, "_Collector"],
    calibration_data: Any,
) -> Iterator[tuple[Inputs, Any]]:
    """Each batch, and what the model returns for it while collectors look on."""
    observers = {layer: x.observe for layer, x in collectors.items()}
    with observe(model, observers) as run:
        for batch in input_batches(calibration_data):
            mask = padding_mask(batch)
            for collector in collectors.values():
                collector.mask = mask
            yield batch, _run(run, batch, list(collectors.values()))


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

    def __init__(self, path: str, kept: "_Counts | _Moments | _Rows") -> None:
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


class _Finite:
    """What is kept of inputs that must be finite."""

    def problem_of(self, values: np.ndarray) -> str | None:
        wrong = np.sum(~np.isfinite(values))
        if wrong:
            return f"must give finite numbers. Received: {wrong} NaN or infinite values"
        return None


class _Rows(_Finite):
    """Inputs themselves."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        rows = values.reshape(-1, values.shape[-1])
        self.rows.append(rows.astype(np.float32, copy=False))


class _Moments(_Finite):
    """Moments of inputs, batch after batch."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, values: np.ndarray) -> None:
        """Add the moments of a batch to those so far (Chan et al., 1983)."""
        rows = values.reshape(-1, values.shape[-1]).astype(np.float32, copy=False)
        if not len(rows):
            return
        mean = rows.mean(axis=0, dtype=np.float64)
        rows = rows - mean.astype(np.float32)
        is_joint = rows.shape[1] <= MOST_INPUTS
        products = rows.T @ rows if is_joint else np.square(rows).sum(axis=0)
        if not self.count:
            self.count, self.mean, self.products = len(rows), mean, products
            return
        total = self.count + len(rows)
        shift = mean - self.mean
        change = np.sqrt(self.count * len(rows) / total) * shift
        change = change.astype(np.float32)
        products += change[:, np.newaxis] * change if is_joint else change**2
        self.products += products
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total

    def result(self) -> InputMoments | None:
        if not self.count:
            return None
        covariance = self.products / np.float32(self.count)
        return InputMoments(self.count, self.mean, covariance)
