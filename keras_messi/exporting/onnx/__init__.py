"""Smaller forms of matrices in a finished ONNX file. Knows forms, and no models."""
