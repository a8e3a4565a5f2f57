"""Layers of other kinds than Dense that compute with Dense layers inside them.

The unfolding of a kernel is the matrix that it is once its axes are put in order and
joined. One file for each kind, with one class that `table` lists: it says how a kernel
is unfolded, and computes what the layer did with any Dense layer in the place of that.
"""
