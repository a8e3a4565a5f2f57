"""Layers around others that train them for product quantization (Quant-Noise)."""
