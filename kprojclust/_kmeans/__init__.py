"""The parts of partitioning-guided k-means: start, Lloyd's loop, empty clusters.

May import `_geometry` and `_parallel`.
"""
