"""Baselines: contributions to the energy that are known beforehand; a model learns the rest."""

from gprann.baselines.base import BASELINES as BASELINES
from gprann.baselines.base import Baseline as Baseline
from gprann.baselines.base import BaselineLike as BaselineLike
from gprann.baselines.base import BaselineSum as BaselineSum
from gprann.baselines.base import Contribution as Contribution
from gprann.baselines.base import as_baseline as as_baseline
from gprann.baselines.base import register_baseline as register_baseline
from gprann.baselines.base import terms_of as terms_of
from gprann.baselines.calculator import CalculatorBaseline as CalculatorBaseline
from gprann.baselines.calculator import keep_baseline as keep_baseline
from gprann.baselines.calculator import restore_baseline as restore_baseline
from gprann.baselines.coulomb import Coulomb as Coulomb
from gprann.baselines.dispersion import Dispersion as Dispersion
from gprann.baselines.reference_energies import ReferenceEnergies as ReferenceEnergies
from gprann.baselines.reference_energies import fit_baseline as fit_baseline
from gprann.baselines.zbl import Zbl as Zbl
