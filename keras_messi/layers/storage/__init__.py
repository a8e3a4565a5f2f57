"""How a matrix is stored, one file a way: each a subclass of `Storage`.

It may import `numbers`, `_backend` and `_checks`.
"""
