"""Relaxations and minimum-energy paths accelerated by a surrogate that learns on the way."""

from gprann.acceleration.band import Band, neb
from gprann.acceleration.relaxation import Relaxation, relax

__all__ = ["Band", "Relaxation", "neb", "relax"]
