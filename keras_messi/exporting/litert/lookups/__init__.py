"""Rows of matrices in LiteRT: a function for each form, and factors in one table."""
