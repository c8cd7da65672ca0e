"""Solvers of the surrogate's equations."""
