"""MESSI with entropy coded coordinates, for `MessiConfig` with such a quantization."""

import keras
import numpy as np

from keras_messi.configs import EntropyCodingConfig, MessiConfig
from keras_messi.layers.entropy_coded import (
    MessiEntropyCodedDense,
    MessiEntropyCodedEmbedding,
)
from keras_messi.layers.kinds import by_kind
from keras_messi.layers.numbers.entropy import encode
from keras_messi.layers.numbers.integers import LEVELS
from keras_messi.layers.replacement import replacement
from keras_messi.layers.storage.few_bits.entropy_coded import coded_scales, scales_from
from keras_messi.layers.storage.few_bits.entropy_coded_factors import encode_clusters
from keras_messi.methods.entropy_coding import step_of_entropy, steps_of
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.steps import dtype_for, exponents_for, to_integers
from keras_messi.methods.subspaces.messi_rounding import fitted_again
from keras_messi.methods.subspaces.sides import factors_of

CLASSES = by_kind(MessiEntropyCodedDense, MessiEntropyCodedEmbedding)


def factored(matrix: LayerMatrix, config: MessiConfig) -> keras.Layer:
    """A layer of factors, with coordinates that are integers, and bases as integers.

    The basis of each cluster is turned to its principal axes, so that coordinates on
    the last of them are mostly zero and take next to no bits. Once they are rounded,
    it is fitted to them again.
    """
    coding = config.quantization
    assert isinstance(coding, EntropyCodingConfig)
    factors = factors_of(matrix, config)
    members = [factors.assignments == c for c in range(len(factors.bases))]
    of_clusters = list(map(factors.weights_of, range(len(factors.bases))))
    turned = list(
        map(_on_principal_axes, factors.coordinates, factors.bases, of_clusters)
    )
    exponents = exponents_for(steps_of(factors.weights, len(factors.assignments)))
    tables, own_exponents = [u for u, _ in turned], [exponents[own] for own in members]
    step = step_of_entropy(tables, own_exponents, coding.bits)
    scales = scales_from(step, exponents)[:, np.newaxis]
    stored, bases, basis_scales, integers = {}, [], [], []
    for c, (u, v) in enumerate(turned):
        integers.append(to_integers(u / scales[members[c]]))
        rounded, own = integers[c] * scales[members[c]], of_clusters[c]
        fitted = fitted_again(u, rounded, v, own)
        counts = 1 if own is None else own[:, np.newaxis]
        spreads = np.sqrt(np.sum(counts * np.square(rounded), axis=0))
        error = np.sqrt(np.mean(counts * np.square(scales[members[c]])))
        basis, basis_scale = _coded_basis(fitted, error / np.maximum(spreads, error))
        bases.append(basis)
        basis_scales.append(basis_scale)
        stored[f"integers_{c}"] = encode(integers[c])
    stored |= {
        **coded_scales(step, np.concatenate(own_exponents)),
        "coded_assignments": encode_clusters(factors.assignments),
        "coded_bases": encode(np.concatenate(bases)),
        "basis_scales": np.concatenate(basis_scales),
    }
    arguments = {**factors.arguments(), "integer_dtype": dtype_for(integers)}
    return replacement(matrix.layer, CLASSES, "factors_regularizer", arguments, stored)


def _coded_basis(basis: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers, int8, and scales of the directions of a basis.

    Args:
        basis: Array of shape `(j, d)`.
        steps: Of each direction, at which rounding it does as much as rounding the
            coordinates does.
    """
    steps = np.maximum(steps, np.abs(basis).max(axis=1) / 127)
    integers = np.round(basis / steps[:, np.newaxis]).astype(np.int8)
    return integers, (steps * LEVELS["int8"]).astype(np.float32)


def _on_principal_axes(
    u: np.ndarray, v: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates and basis of the same product, by falling spread."""
    scaled = u if weights is None else u * weights[:, np.newaxis]
    _, turn = np.linalg.eigh(scaled.T @ u)
    turn = turn[:, ::-1].astype(np.float32)
    return u @ turn, turn.T @ v


def stored_size(n: int, d: int, config: MessiConfig) -> int:
    """About how many bytes bases and coordinates of equal ranks take on disk."""
    assert isinstance(config.quantization, EntropyCodingConfig)
    k, rank = int(config.num_clusters), config.rank_for(n, d)
    coordinates = int(n * rank * config.quantization.bits / 8)
    return coordinates + n // 2 + k * rank * (d + 4)
