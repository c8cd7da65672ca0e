"""Kernels of the surrogate."""
