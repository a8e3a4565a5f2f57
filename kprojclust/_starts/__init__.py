"""Initializations and restarts: what happens before, between and after runs of EM.

May import `_engine` and what that may import.
"""
