"""Convolutions whose kernels are those of Dense layers."""
