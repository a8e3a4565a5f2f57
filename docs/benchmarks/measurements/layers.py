"""Layers of factors against the layers that they replace, call by call."""

import importlib.util
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from competitors.truncated_svd import equal_rank
from measurements import Row
from measurements.data import scaled
from measurements.processes import in_fresh_process
from measurements.timing import format_seconds, timed

K = 5
# Of a word table fitted with k = 5; factors may be random, as times don't depend on
# them, but sizes may not.
SHARES = (0.35, 0.25, 0.18, 0.13)
TITLE = f"A call of a layer of factors against the layer that it replaces, k = {K}"
WARM_UP = 5
FORWARD, BACKWARD = "forward", "forward and backward"


class Comparison(NamedTuple):
    """Two layers, and what the ratio of their times should at most be, each way."""

    what: str
    backend: str
    make: Callable[..., tuple]  # (scale) -> ours, theirs, inputs, call arguments
    repeats: int
    limits: dict[str, tuple[str, str]]  # way: floor and aim


def rows(record, scale):
    """Look-up, tied logits, a large Dense layer and a small one."""
    for comparison in COMPARISONS:
        what = f"{comparison.backend}: {comparison.what}"
        if importlib.util.find_spec(comparison.backend) is None:
            yield Row(what, f"{comparison.backend} is not installed", "", "")
            continue
        key = f"layers/{what}"
        found = record(key, in_fresh_process, time_calls, comparison, scale)
        for way, limits in comparison.limits.items():
            yield _row(f"{what}, {way}", found[way], limits)


def _row(what, found, limits):
    ours, theirs = found["ours"], found["theirs"]
    ratio = f"{np.median(ours) / np.median(theirs):.3g}x as long"
    return Row(what, format_seconds(ours), format_seconds(theirs), ratio, *limits)


def time_calls(comparison: Comparison, scale: float) -> dict[str, dict[str, list]]:
    """Seconds of the calls of both sides, each way. In a process of its own."""
    os.environ["KERAS_BACKEND"] = comparison.backend
    *layers, x, arguments = comparison.make(scale)
    step = STEPS[comparison.backend]
    return {
        way: _in_turn(
            {
                name: step(layer, x, arguments, backward=way == BACKWARD)
                for name, layer in zip(("ours", "theirs"), layers, strict=True)
            },
            comparison.repeats,
        )
        for way in comparison.limits
    }


def _in_turn(calls, repeats):
    seconds: dict[str, list] = {name: [] for name in calls}
    for turn in range(WARM_UP + repeats):
        for name, call in calls.items():
            taken, _ = timed(call)
            if turn >= WARM_UP:
                seconds[name].append(taken)
    return seconds


def _tensorflow_step(layer, x, arguments, backward):
    import tensorflow as tf

    x = tf.Variable(x) if np.issubdtype(x.dtype, np.floating) else tf.constant(x)
    weights = [weight.value for weight in layer.trainable_weights]
    sources = [*weights, x] if isinstance(x, tf.Variable) else weights
    upstream = tf.random.normal(layer(x, **arguments).shape)

    def forward():
        return layer(x, **arguments)

    def forward_and_backward():
        with tf.GradientTape() as tape:
            outputs = forward()
        return tape.gradient(outputs, sources, output_gradients=upstream)

    return tf.function(forward_and_backward if backward else forward)


def _torch_step(layer, x, arguments, backward):
    import torch

    x = torch.tensor(x)
    upstream = torch.randn(layer(x, **arguments).shape)

    def forward():
        with torch.no_grad():
            layer(x, **arguments)

    def forward_and_backward():
        layer.zero_grad(set_to_none=True)
        layer(x, **arguments).backward(upstream)

    return forward_and_backward if backward else forward


STEPS = {"tensorflow": _tensorflow_step, "torch": _torch_step}


def cluster_sizes(n: int) -> list[int]:
    """Sizes of k clusters of n rows."""
    sizes = [max(round(share * n), 1) for share in SHARES]
    return [*sizes, n - sum(sizes)]


def zipf_ids(n: int, size: int) -> np.ndarray:
    """Token ids that are as rare as their rank is high, in a vocabulary in no order."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, n + 1)
    ranks = rng.choice(n, size, p=shares / shares.sum())
    return rng.permutation(n)[ranks].astype("int32")


def _shuffled(layer, n: int) -> Any:
    """The layer with its rows in no order."""
    if layer.routing is not None:
        layer.routing.assign(np.random.default_rng(1).permutation(n).astype("int32"))
    return layer


def _table(scale):
    """A 30522 x 768 table with 53 % of the dimensions."""
    from keras_messi.layers import MessiEmbedding

    n, d = scaled(30_522, scale), round(768 * scale**0.5)
    j = round(0.533 * d)
    layer = MessiEmbedding(n, d, K, j, cluster_sizes(n))
    layer.build()
    return _shuffled(layer, n), n, d, j


def _look_up(scale):
    from keras_messi.layers import MessiEmbedding

    layer, n, d, j = _table(scale)
    svd = MessiEmbedding(n, d, 1, equal_rank((n, d), K, j))
    svd.build()
    return layer, svd, zipf_ids(n, 2048).reshape(16, 128), {}


def _logits(scale, size):
    import keras

    layer, n, d, _ = _table(scale)
    full = keras.layers.ReversibleEmbedding(n, d)
    full.build()
    return layer, full, _inputs(size, d), {"reverse": True}


def _few_logits(scale):
    return _logits(scale, 128)


def _many_logits(scale):
    return _logits(scale, 1024)


def _dense(n, d, batch, rank=None, grouped_inputs=False):
    import keras

    from keras_messi import MessiConfig
    from keras_messi.layers import MessiDense

    rank = rank or max(MessiConfig(rate=0.5, num_clusters=K).rank_for(n, d), 1)
    layer = MessiDense(d, K, rank, cluster_sizes(n), grouped_inputs)
    dense = keras.layers.Dense(d)
    for one in (layer, dense):
        one.build((None, n))
    return _shuffled(layer, n), dense, _inputs(batch, n), {}


def _large_dense(scale):
    return _dense(scaled(25_088, scale), scaled(4096, scale), 32)


def _large_dense_of_even_rank(scale):
    return _dense(
        scaled(25_088, scale), scaled(4096, scale), 32, rank=scaled(1120, scale)
    )


def _small_dense(scale):
    return _dense(scaled(784, scale), scaled(300, scale), 128)


def _small_grouped_dense(scale):
    return _dense(scaled(784, scale), scaled(300, scale), 128, grouped_inputs=True)


def _inputs(*shape):
    return np.random.default_rng(2).standard_normal(shape, "float32")


LOOK_UP = "look-up of 2048 Zipf ids, 30522 x 768, j = 409, against as large an SVD"
LARGE = "25088 x 4096 Dense of VGG-19, batch 32, half its parameters"
LARGE_LIMITS = {FORWARD: ("<= 0.75x", "<= 0.6x"), BACKWARD: ("<= 0.55x", "<= 0.45x")}
LOGITS = "tied logits of {} states, same table, against the full product"
SMALL = "784 x 300 Dense, batch 128, half its parameters"
COMPARISONS = (
    Comparison(
        LOOK_UP,
        "tensorflow",
        _look_up,
        100,
        {FORWARD: ("<= 1.3x", "<= 0.9x"), BACKWARD: ("<= 1.2x", "<= 0.9x")},
    ),
    Comparison(
        LOOK_UP,
        "torch",
        _look_up,
        50,
        {FORWARD: ("<= 1.4x", "<= 1x"), BACKWARD: ("<= 0.6x", "<= 0.5x")},
    ),
    Comparison(
        LOGITS.format(128),
        "tensorflow",
        _few_logits,
        50,
        {FORWARD: ("<= 0.8x", "<= 0.65x")},
    ),
    Comparison(
        LOGITS.format(1024),
        "tensorflow",
        _many_logits,
        100,
        {FORWARD: ("<= 0.8x", "<= 0.65x")},
    ),
    Comparison(LARGE, "tensorflow", _large_dense, 20, LARGE_LIMITS),
    Comparison(
        f"{LARGE}, rank 1120 instead of 1127",
        "tensorflow",
        _large_dense_of_even_rank,
        20,
        LARGE_LIMITS,
    ),
    Comparison(
        SMALL, "tensorflow", _small_dense, 5000, {FORWARD: ("<= 1.15x", "<= 0.9x")}
    ),
    Comparison(
        f"{SMALL}, permutation folded",
        "tensorflow",
        _small_grouped_dense,
        5000,
        {FORWARD: ("<= 1.15x", "<= 0.9x")},
    ),
)
