"""Geometry of flats: fits of a single one, distances, principal axes and means.

Everything here is a function of arrays. May import `_parallel` only.
"""
