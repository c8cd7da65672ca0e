"""Potentials in the files of other programs."""
