"""Charges for Coulomb baselines, and tests of what they bring: locality, errors of structures held out."""

from gprann.electrostatics.charges import ChargeFit as ChargeFit
from gprann.electrostatics.charges import fit_charge_scale as fit_charge_scale
from gprann.electrostatics.charges import fit_charges_to_dipoles as fit_charges_to_dipoles
from gprann.electrostatics.charges import fit_charges_to_locality as fit_charges_to_locality
from gprann.electrostatics.field import FieldCalculator as FieldCalculator
from gprann.electrostatics.held_out import BaselineCheck as BaselineCheck
from gprann.electrostatics.held_out import check_baseline as check_baseline
from gprann.electrostatics.locality import HessianRows as HessianRows
from gprann.electrostatics.locality import Locality as Locality
from gprann.electrostatics.locality import locality as locality
