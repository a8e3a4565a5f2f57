"""Storages of codewords and their codes (product quantization)."""
