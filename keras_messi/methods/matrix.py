"""The matrix of a layer, as the methods take it."""

from typing import NamedTuple

import keras
import numpy as np

from keras_messi.calibration.statistics import Calibration, InputMoments
from keras_messi.layers.kinds import read_matrix
from keras_messi.methods.feedback import Feedback, feedback_for


class LayerMatrix(NamedTuple):
    """The matrix of a layer, and how it is to be fitted.

    Attributes:
        layer: The layer.
        values: Array of shape (n, d).
        weights: Array of shape (n,), how much the squared error of each row counts.
        numbers: Numbers to keep, instead of what a config says.
        inputs: Inputs of the layer, if it is known how they go together.
    """

    layer: keras.Layer
    values: np.ndarray
    weights: np.ndarray | None = None
    numbers: int | None = None
    inputs: InputMoments | None = None

    @property
    def feedback(self) -> Feedback | None:
        """How rows make up for each other's errors, if inputs are known.

        Of deviations from their mean if the layer has a bias, which makes up for that.
        """
        if self.inputs is None:
            return None
        return feedback_for(self.inputs, self.layer.use_bias)

    def told(
        self, calibration: Calibration | None, weights: np.ndarray | None
    ) -> "LayerMatrix":
        """The same with what is known of its rows."""
        known = self._replace(weights=weights)
        if weights is None or not isinstance(calibration, InputMoments):
            return known
        return known._replace(inputs=calibration) if calibration.is_joint else known


def matrix_of(layer: keras.Layer, numbers: int | None = None) -> LayerMatrix:
    """The matrix of a layer without any knowledge of its inputs."""
    return LayerMatrix(layer, read_matrix(layer), numbers=numbers)
