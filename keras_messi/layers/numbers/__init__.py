"""How numbers are stored: floats, packed integers with scales, codes of codewords.

It may import `_backend` and `_checks`.
"""
