"""Calibration: data in batches, observers of layers, and the statistics they collect.

Knows no model, only functions that observe one, and no method.
"""

from keras_messi.calibration.statistics import (
    CalibrationStatistics,
    InputSample,
    TokenCounts,
)

__all__ = ["CalibrationStatistics", "InputSample", "TokenCounts"]
