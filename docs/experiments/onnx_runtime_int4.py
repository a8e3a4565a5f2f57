"""ONNX Runtime's own 4 bits, from file to file."""

from pathlib import Path

import onnx
from onnx import version_converter
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer


def int4_blocks(plain: Path, small: Path, block_size: int) -> None:
    """All products and look-ups in 4 bits, with a scale for each block."""
    quantizer = MatMulNBitsQuantizer(
        # Its look-up of integers is of these operators.
        version_converter.convert_version(onnx.load(plain), 21),
        block_size=block_size,
        op_types_to_quantize=("MatMul", "Gather"),
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(small))
