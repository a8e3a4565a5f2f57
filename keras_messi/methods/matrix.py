"""The matrix of a layer, as the methods take it."""

from typing import NamedTuple

import keras
import numpy as np


class LayerMatrix(NamedTuple):
    """The matrix of a layer, and how it is to be fitted.

    Attributes:
        layer: The layer.
        values: Array of shape (n, d).
        weights: Array of shape (n,), how much the squared error of each row counts.
        numbers: Numbers to keep, instead of what a config says.
        moment: Second moment of the inputs of the layer, array of shape (n, n); centred
            if the layer has a bias, which makes up for the mean.
    """

    layer: keras.Layer
    values: np.ndarray
    weights: np.ndarray | None = None
    numbers: int | None = None
    moment: np.ndarray | None = None
