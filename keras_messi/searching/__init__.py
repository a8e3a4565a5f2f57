"""The search for the number of clusters and the rate: trials on disk, and curves.

May import `compression` and what that may import.
"""

from keras_messi.searching.ensemble import SearchResult, search

__all__ = ["SearchResult", "search"]
