"""Storages of numbers in a few bits: levels, and entropy coded integers."""
