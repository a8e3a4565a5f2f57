"""Export to files that run without Keras: SavedModel, LiteRT, ONNX.

May import `models`, `layers` and `saving`; needs no method and no kprojclust.
"""

from keras_messi.exporting.formats import export

__all__ = ["export"]
