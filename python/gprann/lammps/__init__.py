"""Potentials in LAMMPS: `pair_style gprann`, compiled for the LAMMPS at hand, and a helper for `fix external`."""

from gprann.lammps.check import LammpsCheck as LammpsCheck
from gprann.lammps.check import check as check
from gprann.lammps.external import attach as attach
from gprann.lammps.installation import Installation as Installation
from gprann.lammps.installation import find_installation as find_installation
from gprann.lammps.plugin import Plugin as Plugin
from gprann.lammps.plugin import build as build
