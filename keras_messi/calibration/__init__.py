"""Calibration: data in batches, observers of layers, and the statistics they collect.

May import `models` and `layers`; knows no method.
"""

from keras_messi.calibration.statistics import (
    CalibrationStatistics,
    InputSample,
    TokenCounts,
)

__all__ = ["CalibrationStatistics", "InputSample", "TokenCounts"]
