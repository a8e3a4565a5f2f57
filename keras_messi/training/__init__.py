"""Compression while a model is trained: quantization noise, and group after group.

May import `compression` and what that may import.
"""

from keras_messi.training.groups import compress_in_groups
from keras_messi.training.quant_noise import (
    RefitCodewords,
    add_codeword_noise,
    add_quant_noise,
    refit_codewords,
    remove_quant_noise,
)

__all__ = [
    "RefitCodewords",
    "add_codeword_noise",
    "add_quant_noise",
    "compress_in_groups",
    "refit_codewords",
    "remove_quant_noise",
]
