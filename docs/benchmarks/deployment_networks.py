"""What is exported: networks, their smaller forms, inputs, and how they are scored."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from byte_budget import batches_of
from deployment_runtimes import Batch, Run
from real_data import minilm_folder, mnist, trained_lenet
from sentence_similarity import Pairs, training_counts
from whole_minilm import WORDS

from keras_messi import (
    MessiConfig,
    PQConfig,
    RoundingConfig,
    compress,
    quantize,
)
from keras_messi.calibration.statistics import CalibrationStatistics, TokenCounts
from keras_messi.huggingface import from_pretrained


@dataclass(frozen=True)
class Network:
    """A network and what is done with it.

    Attributes:
        build: Makes it, uncompressed.
        forms: What makes it smaller, by name.
        all_kinds: The form that is written as each kind of file.
        inputs: So many inputs, by name.
        score: From what runs it to a score, if there is one.
    """

    build: Callable[[], Any]
    forms: dict[str, Callable[[Any], Any]]
    all_kinds: str
    inputs: Callable[[int], Batch]
    score: Callable[[Run], float] | None = None


def _compressed(config: Any) -> Callable[[Any], Any]:
    return lambda model: compress(model, config)[0]


def _quantized(config: Any, mode: str) -> Callable[[Any], Any]:
    return lambda model: quantize(compress(model, config)[0], mode)


_FACTORS = MessiConfig(rate=0.8, num_clusters=5)
_CODES = PQConfig(block_size=4, num_codewords=256)
_FORMS = {
    "factors": _compressed(_FACTORS),
    "factors, int8": _quantized(_FACTORS, "int8"),
    "factors, int4": _quantized(_FACTORS, "int4"),
    "codes": _compressed(_CODES),
    "codes on coordinates": _compressed(
        MessiConfig(rate=0.5, num_clusters=5, quantization=_CODES)
    ),
    "4 bits a number": _compressed(RoundingConfig(4, block_size=None)),
    "4 bits, blocks of 64": _compressed(RoundingConfig(4, block_size=64)),
    "8 bits a number": _compressed(RoundingConfig(8, block_size=None)),
}
# A tenth of the numbers of a table.
_FEW_FACTORS = MessiConfig(rate=0.9, num_clusters=5)
_AT_90 = {
    "factors, 90 % removed": _compressed(_FEW_FACTORS),
    "factors, 90 % removed, int8": _quantized(_FEW_FACTORS, "int8"),
    "factors, 90 % removed, int4": _quantized(_FEW_FACTORS, "int4"),
}
# What Keras makes of the layers, by itself.
_BY_KERAS = {
    f"Keras {mode}": partial(quantize, mode=mode, filters=".*")
    for mode in ("int8", "int4")
}
# Those of networks of which less is to be seen.
_FEW_FORMS = {
    name: _FORMS[name]
    for name in ("factors, int4", "codes", "4 bits a number", "8 bits a number")
}


def _accuracy(run: Run) -> float:
    digits = mnist()
    batches = np.array_split(digits.x_test, 100)
    found = np.concatenate([run({"images": x}).argmax(axis=1) for x in batches])
    return 100 * float(np.mean(found == digits.y_test))


def _images(count: int) -> Batch:
    return {"images": mnist().x_test[:count]}


def _recommender() -> keras.Model:
    """Users, items and a history of items, with random weights."""
    keras.utils.set_random_seed(0)
    inputs = [
        keras.Input((size,), dtype="int32", name=name)
        for name, size in (("user", 1), ("item", 1), ("history", 10))
    ]
    users = keras.layers.Embedding(5000, 32, name="users")
    items = keras.layers.Embedding(3000, 32, name="items")
    x = [keras.layers.Flatten()(users(inputs[0]))]
    x.append(keras.layers.Flatten()(items(inputs[1])))
    x.append(keras.layers.GlobalAveragePooling1D()(items(inputs[2])))
    x = keras.layers.Concatenate()(x)
    for units in (128, 64):
        x = keras.layers.Dense(units, "relu", name=f"hidden_{units}")(x)
    return keras.Model(inputs, keras.layers.Dense(1, "sigmoid", name="head")(x))


def _tied() -> keras.Model:
    """A table that is looked up and, transposed, gives logits; random weights."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((16,), dtype="int32", name="tokens")
    table = keras.layers.ReversibleEmbedding(8000, 64, name="words")
    hidden = keras.layers.Dense(64, "gelu", name="hidden")(table(tokens))
    return keras.Model(tokens, table(hidden, reverse=True))


def _classifier() -> keras.Model:
    """A table of 20,000 words and a small head, with random weights."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((16,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(20_000, 64, name="words")(tokens)
    x = keras.layers.GlobalAveragePooling1D()(x)
    x = keras.layers.Dense(32, "relu", name="hidden")(x)
    return keras.Model(tokens, keras.layers.Dense(2, name="head")(x))


def _ids(**lengths: int) -> Callable[[int], Batch]:
    def draw(count: int) -> Batch:
        rng = np.random.default_rng(0)
        return {
            name: rng.integers(0, 3000, (count, length)).astype("int32")
            for name, length in lengths.items()
        }

    return draw


_DENSE = "attention|intermediate|output/dense|pooler|position"


@cache
def _minilm() -> Any:
    return from_pretrained(minilm_folder())


@cache
def _minilm_with_table() -> Any:
    """MiniLM with a factored word table in 4 bits, as in whole_minilm.py."""
    model = _minilm()
    counts = TokenCounts(training_counts(model.config.vocab_size))
    config = MessiConfig(rate=0.62, num_clusters=5, quantization="int4")
    known = CalibrationStatistics({WORDS: counts})
    return compress(model, config, f"^{WORDS}$", calibration_data=known)[0]


def _rounded(bits: int, block_size: int | None) -> Callable[[Any], Any]:
    """All else in a few bits, calibrated on training sentences."""
    config = RoundingConfig(bits, block_size)
    data = {"calibration_data": batches_of("STS-B", 0)}
    return lambda model: compress(_minilm_with_table(), config, _DENSE, **data)[0]


@cache
def _pairs() -> Pairs:
    return Pairs("dev")


def _similarity(run: Run) -> float:
    def model(inputs: Batch) -> Any:
        states = run(inputs)
        return SimpleNamespace(last_hidden_state=SimpleNamespace(numpy=lambda: states))

    model.config = _minilm().config  # type: ignore[attr-defined]
    return _pairs().score(model)


def _sentences(count: int) -> Batch:
    """Sentences of 16 word pieces each, from training texts."""
    ids = np.concatenate([x["input_ids"].ravel() for x in batches_of("STS-B", 0)])
    ids = ids[ids > 999][: 14 * count].reshape(count, 14)
    ids = np.pad(ids, ((0, 0), (1, 0)), constant_values=101)
    ids = np.pad(ids, ((0, 0), (0, 1)), constant_values=102)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


NETWORKS = {
    "LeNet-300-100": Network(
        trained_lenet, _FORMS | _BY_KERAS, "4 bits a number", _images, _accuracy
    ),
    "text classifier": Network(
        _classifier,
        _FEW_FORMS | _AT_90 | _BY_KERAS,
        "factors, int4",
        _ids(tokens=16),
    ),
    "recommender": Network(
        _recommender,
        _FEW_FORMS | _BY_KERAS,
        "factors, int4",
        _ids(user=1, item=1, history=10),
    ),
    "tied table": Network(
        _tied, _FEW_FORMS | _BY_KERAS, "factors, int4", _ids(tokens=16)
    ),
    "MiniLM": Network(
        _minilm,
        {
            "int4 a column": _rounded(4, None),
            "int8 a column": _rounded(8, None),
            "int4, blocks of 128": _rounded(4, 128),
            **_BY_KERAS,
        },
        "int4 a column",
        _sentences,
        _similarity,
    ),
}
