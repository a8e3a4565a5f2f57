"""Rows in tiles of fixed size, and threads over them; imports nothing of ours.

Sums are built tile by tile, so that the number of threads never changes a result.
"""
