"""Embedding layers: rows of a table in one of the storages, and tied logits."""
