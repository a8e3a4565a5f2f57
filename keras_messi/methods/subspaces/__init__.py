"""Factors around subspaces, with numbers in all forms that they can have."""
