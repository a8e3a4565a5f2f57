"""What a kernel is to be on the inputs that its layer gets in a smaller model."""

from typing import NamedTuple

import keras
import numpy as np

from keras_messi.calibration.observers import MOST_INPUTS, moments_of
from keras_messi.calibration.statistics import InputMoments, second_moment
from keras_messi.layers.replacement import copy_layer

# Of the mean second moment of an input, by which the kernel is held to what it was:
# inputs that the data do not tell apart keep their weights.
_RIDGE = 1e-3


class Target(NamedTuple):
    """A layer to be compressed, and what it receives.

    Attributes:
        layer: A Dense layer.
        inputs: Moments of the inputs that it gets in the smaller model.
    """

    layer: keras.Layer
    inputs: InputMoments


def target_for(layer: keras.Layer, before: np.ndarray, after: np.ndarray) -> Target:
    """A layer that gives on its inputs in a smaller model what another gave before.

    Its kernel is the regression of the outputs on these inputs, with a ridge towards
    what it was; its bias makes up for the mean error.

    Args:
        layer: A Dense layer. It is left as it is.
        before: What it receives in the model, of shape `(count, inputs)`.
        after: What it receives in the smaller model at the same places.
    """
    n = before.shape[1]
    if 2 * n > MOST_INPUTS:
        return Target(layer, moments_of(after))
    both = moments_of(np.concatenate([after, before], axis=1))
    moment = second_moment(both, centred=layer.use_bias).astype(np.float64)
    own, products = moment[:n, :n].copy(), moment[:n, n:].copy()
    ridge = _RIDGE * (np.trace(own) / n or 1)
    for square in (own, products):
        square[np.diag_indices(n)] += ridge
    kernel = keras.ops.convert_to_numpy(layer.kernel).astype(np.float64)
    regressed = np.linalg.solve(own, products @ kernel)
    new = copy_layer(layer)
    new.kernel.assign(regressed)
    if layer.use_bias:
        error = both.mean[n:] @ kernel - both.mean[:n] @ regressed
        new.bias.assign(keras.ops.convert_to_numpy(layer.bias) + error)
    inputs = InputMoments(both.count, both.mean[:n], both.covariance[:n, :n])
    return Target(new, inputs)
