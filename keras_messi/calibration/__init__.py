"""Calibration: data in batches, observers of layers, and the statistics they collect.

Knows no model, only functions that observe one, and no method.
"""

from keras_messi.calibration.statistics import (
    CalibrationStatistics,
    InputMoments,
    TokenCounts,
)

__all__ = ["CalibrationStatistics", "InputMoments", "TokenCounts"]
