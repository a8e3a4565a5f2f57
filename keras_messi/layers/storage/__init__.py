"""Storages of a matrix: factors around k subspaces, codebooks and codes, or both.

May import `numbers`; knows no use of the matrix.
"""
