"""Molecular dynamics with potentials and surrogates."""

from gprann.dynamics.options import MdOptions as MdOptions
from gprann.dynamics.results import MdResult as MdResult
from gprann.dynamics.run import md as md
