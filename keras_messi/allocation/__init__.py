"""The plan of a compression, and the allocation of a budget to its layers.

May import `methods`, `models` and what these may import.
"""
