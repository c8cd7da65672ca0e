"""Relaxations and minimum-energy paths accelerated by a surrogate that learns on the way."""

from gprann.active.neb import Band as Band
from gprann.active.neb import neb as neb
from gprann.active.relax import Relaxation as Relaxation
from gprann.active.relax import relax as relax
