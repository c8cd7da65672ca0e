"""Relaxations and minimum-energy paths accelerated by a surrogate that learns on the way."""

from gprann.active.neb import Band, neb
from gprann.active.relax import Relaxation, relax

__all__ = ["Band", "Relaxation", "neb", "relax"]
