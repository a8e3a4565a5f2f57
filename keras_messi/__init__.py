"""Keras layers and model surgery that make networks smaller."""
