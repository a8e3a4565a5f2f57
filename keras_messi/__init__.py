"""Make Keras models smaller by projective clustering of their weights."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import keras_messi._keras_version  # noqa: F401 (before the imports that need it)
import keras_messi._old_names  # noqa: F401
from keras_messi import huggingface, layers
from keras_messi.configs import (
    BudgetConfig,
    EntropyCodingConfig,
    MessiConfig,
    PQConfig,
    RoundingConfig,
)
from keras_messi.layers.unfolded.table import register_layer
from keras_messi.models.keras.saving import load_model, save_model

if TYPE_CHECKING:
    from keras_messi.compression import calibrate, compress
    from keras_messi.exporting import export
    from keras_messi.quantization import dequantize, quantize
    from keras_messi.report import CompressionReport
    from keras_messi.searching import SearchResult, search
    from keras_messi.training.groups import compress_in_groups

__all__ = [
    "BudgetConfig",
    "CompressionReport",
    "EntropyCodingConfig",
    "MessiConfig",
    "PQConfig",
    "RoundingConfig",
    "SearchResult",
    "calibrate",
    "compress",
    "compress_in_groups",
    "dequantize",
    "export",
    "huggingface",
    "layers",
    "load_model",
    "quantize",
    "register_layer",
    "save_model",
    "search",
]

__version__ = version("kprojclust")

# A compressed model loads and runs without what is needed to make it.
_LAZY = {
    "calibrate": "compression",
    "compress": "compression",
    "compress_in_groups": "training.groups",
    "CompressionReport": "report",
    "dequantize": "quantization",
    "export": "exporting",
    "quantize": "quantization",
    "search": "searching",
    "SearchResult": "searching",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
