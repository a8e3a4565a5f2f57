"""Quant-Noise in models: add it for training, refit its codewords, remove it."""

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import keras

from keras_messi.layers import CodewordNoise, QuantNoise
from keras_messi.layers.kinds import has_matrix
from keras_messi.layers.replacement import copy_layer
from keras_messi.methods.subspaces.clustering import fit_codewords
from keras_messi.models.adapter import change_layers
from keras_messi.models.keras.surgery import Filters, find_layers

NOISE = QuantNoise | CodewordNoise


def add_quant_noise(
    model: keras.Model,
    filters: Filters = None,
    *,
    rate: float = 0.1,
    block_size: int = 8,
    seed: int | None = None,
) -> keras.Model:
    """A copy of a model that trains with blocks of some weights missing.

    Each chosen layer is wrapped in a `QuantNoise`. Train the copy, then remove the
    noise by `remove_quant_noise`, and compress.

    Args:
        model: A built model of Keras, of any class. It is left as it is.
        filters: Which layers, as for `keras_messi.compress`; None means all Dense and
            Embedding layers.
        rate: Chance of each block to be left out, at least 0 and less than 1.
        block_size: Consecutive numbers in a block: inputs of a unit of a Dense layer,
            or of a row of an Embedding. It must divide the number of these in all
            chosen layers. Take that of the product quantization to come.
        seed: Seed of the blocks that are drawn.

    Returns:
        A model of the same class, compiled if `model` was, with a fresh optimizer.

    Raises:
        ValueError: The model is none of Keras, the filters match no such layer, one
            shares its weight with another, or the block size does not divide it.

    Example:

    >>> import keras, keras_messi.training.quant_noise
    >>> model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(10)])
    >>> noisy = keras_messi.training.quant_noise.add_quant_noise(model, rate=0.2)
    >>> type(noisy.layers[0]).__name__
    'QuantNoise'

    Reference:
        - [Fan et al., 2020](https://arxiv.org/abs/2004.07320)
    """
    noise = partial(QuantNoise, rate=rate, block_size=block_size)
    return _with_noise(model, filters, noise, seed)


def add_codeword_noise(
    model: keras.Model,
    filters: Filters = None,
    *,
    num_codewords: int = 256,
    rate: float = 0.1,
    block_size: int = 8,
    seed: int | None = None,
) -> keras.Model:
    """A copy of a model that trains with codewords for some blocks of some weights.

    As `add_quant_noise`, with layers in a `CodewordNoise`. The codewords are fitted;
    train with the callback `RefitCodewords`, so that they follow the weights.

    Args:
        model: A built model of Keras, of any class. It is left as it is.
        filters: Which layers, as for `keras_messi.compress`; None means all Dense and
            Embedding layers.
        num_codewords: Number of codewords of each layer.
        rate: Chance of each block to be replaced, at least 0 and less than 1.
        block_size: As for `add_quant_noise`.
        seed: Seed of the blocks that are drawn.

    Returns:
        A model of the same class, compiled if `model` was, with a fresh optimizer.

    Raises:
        ValueError: As for `add_quant_noise`; or a layer has fewer blocks than
            codewords, or weights that are not finite.
    """
    noise = partial(
        CodewordNoise, num_codewords=num_codewords, rate=rate, block_size=block_size
    )
    noisy = _with_noise(model, filters, noise, seed)
    refit_codewords(noisy)
    return noisy


def _with_noise(
    model: keras.Model,
    filters: Filters,
    noise: Callable[..., keras.Layer],
    seed: int | None,
) -> keras.Model:
    _check_keras(model)
    seeds = count() if seed is None else count(seed)

    def wrapped(layer: keras.Layer) -> keras.Layer:
        own_seed = next(seeds) if seed is not None else None
        new = noise(copy_layer(layer), seed=own_seed)
        new.build_from_config(layer.get_build_config())
        return new

    return change_layers(model, filters, has_matrix, wrapped)


def remove_quant_noise(model: keras.Model, filters: Filters = None) -> keras.Model:
    """A copy of a model with the layers themselves instead of those with noise.

    It has the weights as they were trained, and needs Keras alone.

    Args:
        model: A model that `add_quant_noise` or `add_codeword_noise` made. It is left
            as it is.
        filters: Which layers, as for `keras_messi.compress`; None means all with noise.

    Returns:
        A model of the same class, compiled if `model` was, with a fresh optimizer.

    Raises:
        ValueError: The filters match no layer with noise.
    """
    _check_keras(model)
    return change_layers(model, filters, _is_noisy, lambda x: copy_layer(x.layer))


def refit_codewords(model: keras.Model) -> None:
    """Fit the codewords of all `CodewordNoise` layers of a model to their weights.

    This changes the model, though not what it computes in inference. Codewords that
    were fitted before are where the clustering starts.

    Args:
        model: A model of Keras.

    Raises:
        ValueError: The model has no such layer, or weights that are not finite.
    """
    _check_keras(model)
    layers = [named.layer for named in find_layers(model)]
    noisy = [layer for layer in layers if isinstance(layer, CodewordNoise)]
    if not noisy:
        raise ValueError(
            "`model` must have CodewordNoise layers, which `add_codeword_noise` puts "
            f"in. Received: '{model.name}' with none"
        )
    for layer in noisy:
        _refit(layer)


def _refit(layer: CodewordNoise) -> None:
    blocks = keras.ops.convert_to_numpy(layer.read_blocks())
    if not keras.ops.all(keras.ops.isfinite(blocks)):
        raise ValueError(
            "Weights must be finite to fit codewords. "
            f"Received: NaN or infinite ones in layer '{layer.layer.name}'"
        )
    before = keras.ops.convert_to_numpy(layer.codebook)
    start = before if before.any() else None
    codebook, codes = fit_codewords(blocks, layer.num_codewords, start)
    layer.codebook.assign(codebook)
    layer.codes.assign(codes.reshape(layer.codes.shape))


class RefitCodewords(keras.callbacks.Callback):
    """Fits the codewords of `CodewordNoise` layers at the start of every epoch.

    Reference:
        - [Fan et al., 2020](https://arxiv.org/abs/2004.07320): codewords
          are fitted once an epoch.
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Fit all codewords of the model."""
        refit_codewords(self.model)


def _is_noisy(layer: keras.Layer) -> bool:
    return isinstance(layer, NOISE)


def _check_keras(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {type(model)}")
