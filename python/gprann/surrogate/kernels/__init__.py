"""Kernels of the surrogate: how similar two structures are."""
