"""Families of models behind one adapter: find layers, observe, swap, measure, save.

`keras` and `huggingface` are the families. May import `layers` and `saving`; knows no
method.
"""
