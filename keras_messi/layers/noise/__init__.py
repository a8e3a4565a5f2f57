"""Layers around others, with quantization noise on their weights in training.

It may import `_checks`.
"""
