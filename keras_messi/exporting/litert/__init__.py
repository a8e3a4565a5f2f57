"""Smaller forms of matrices in a finished LiteRT file. Knows forms, and no models."""
