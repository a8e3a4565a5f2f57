"""Budgets shared out over matrices, and searches for the best of a few integers.

May import `methods`; knows no model.
"""
