"""Factors of a matrix around subspaces of its rows or, of a kernel, of its outputs."""

from functools import lru_cache

import numpy as np
from scipy.linalg import cholesky, solve_triangular  # type: ignore[import-untyped]

from keras_messi.calibration.statistics import InputMoments, second_moment
from keras_messi.configs import MessiConfig
from keras_messi.layers.kinds import is_table
from keras_messi.methods.matrix import LayerMatrix
from keras_messi.methods.subspaces.clustering import Factors, factorize

# Of the mean second moment of an input, added to that of each: inputs that a sample
# does not tell apart keep their weights.
_RIDGE = 1e-4
# How often each cluster of inputs is fitted anew to what the others leave.
_PASSES = 3
# Share of the median spread: outputs that hardly change are not weighed by more.
_LEAST_SPREAD = 0.01


def side_of(matrix: LayerMatrix, config: MessiConfig) -> str:
    """What is clustered: the inputs of a kernel, or the tokens of a table; or outputs.

    Where the config leaves it open, that is the side on which more is known.
    """
    if is_table(matrix.layer):
        return "inputs"
    if config.side == "auto":
        return "outputs" if _has_moment(matrix) else "inputs"
    return config.side


def clustered_shape(matrix: LayerMatrix, config: MessiConfig) -> tuple[int, int]:
    """How many rows are clustered, and how wide they are."""
    n, d = matrix.values.shape
    return (n, d) if side_of(matrix, config) == "inputs" else (d, n)


def factors_of(matrix: LayerMatrix, config: MessiConfig) -> Factors:
    """Factors of the matrix of a layer; `num_clusters` must not be "auto".

    Those of outputs are factors of the transposed matrix. Where the inputs of the layer
    are known, factors leave little error of its outputs, whichever side is clustered.
    """
    if side_of(matrix, config) == "outputs":
        rows, weights, root = whitened_outputs(matrix)
        factors = factorize(rows, config, numbers=matrix.numbers, weights=weights)
        bases = [solve_triangular(root, v.T).T for v in factors.bases]
        return factors._replace(bases=bases, side="outputs")
    factors = factorize(
        matrix.values, config, numbers=matrix.numbers, weights=matrix.weights
    )
    return refitted(factors, matrix) if _has_moment(matrix) else factors


def refitted(factors: Factors, matrix: LayerMatrix) -> Factors:
    """Factors of clusters of inputs that leave less error of the outputs.

    One cluster after another, for those of the others: the regression of what they
    leave of the outputs on the inputs of the cluster, with a rank that is given, has a
    closed form (reduced rank regression). So the error never rises.
    """
    _, weights, root = whitened_outputs(matrix)
    scales = np.sqrt(weights).astype(matrix.values.dtype)
    moment, left = root.T @ root, matrix.values * scales
    members = [
        np.flatnonzero(factors.assignments == c) for c in range(len(factors.bases))
    ]
    coordinates, bases = list(factors.coordinates), [v * scales for v in factors.bases]
    for own, u, v in zip(members, coordinates, bases, strict=True):
        left[own] -= u @ v
    for _ in range(_PASSES):
        for c, own in enumerate(members):
            left[own] += coordinates[c] @ bases[c]
            own_root = cholesky(moment[np.ix_(own, own)])
            seen = solve_triangular(own_root, moment[own] @ left, trans="T")
            u, s, v = np.linalg.svd(seen, full_matrices=False)
            rank = len(bases[c])
            coordinates[c] = solve_triangular(own_root, u[:, :rank] * s[:rank])
            bases[c] = v[:rank]
            left[own] -= coordinates[c] @ bases[c]
    bases = [v / scales for v in bases]
    return factors._replace(coordinates=coordinates, bases=bases)


def whitened_outputs(
    matrix: LayerMatrix,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows whose squared errors are those of the outputs of a layer.

    With a root S of the second moment of its inputs, `S'S`, the error of the outputs
    for a matrix B in the place of A is `|S (A - B)|`, both squared, and each column of
    `S A` is an output. Where inputs are not known, S is the identity.

    Returns:
        The transpose of `S A`, of shape `(d, n)`; how much the squared error of each
        output counts, of shape `(d,)`: one over its spread, as what follows a layer
        often brings its outputs to one scale; and the upper triangular S.

    Reference:
        - [Wang et al., 2024](https://arxiv.org/abs/2403.07378), Section 3.1.
    """
    values = matrix.values
    if _has_moment(matrix):
        root = _root(matrix.inputs, matrix.layer.use_bias).astype(values.dtype)
    else:
        root = np.eye(len(values), dtype=values.dtype)
    rows = np.ascontiguousarray((root @ values).T)
    spread = np.linalg.norm(rows, axis=1)
    least = _LEAST_SPREAD * (np.median(spread) or 1)
    return rows, 1 / np.maximum(spread, least), root


def _has_moment(matrix: LayerMatrix) -> bool:
    # A single input says nothing of what differs between inputs.
    return matrix.inputs is not None and matrix.inputs.count > 1


@lru_cache(maxsize=1)
def _root(inputs: InputMoments, centred: bool) -> np.ndarray:
    """An upper triangular S with S'S about the second moment, for several fits."""
    moment = second_moment(inputs, centred=centred).astype(np.float64)
    mean = np.trace(moment) / len(moment) or 1
    moment[np.diag_indices_from(moment)] += _RIDGE * mean
    return cholesky(moment)
