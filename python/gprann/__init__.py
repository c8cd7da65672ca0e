"""gprann: neural-network interatomic potentials from a few hundred first-principles energies and forces.

Units: Å, eV, eV/Å, eV/Å³; energies are total energies per structure.
"""

from gprann import examples
from gprann.active import neb, relax
from gprann.active.select import select
from gprann.augmentation import augment, taylor_augment
from gprann.baselines import Baseline, Contribution, ReferenceEnergies, register_baseline
from gprann.calculator import Calculator
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import GprannError
from gprann.evaluation import evaluate
from gprann.io import read, write
from gprann.labelling import label
from gprann.potential import Potential, load
from gprann.surrogate import Surrogate, SurrogateCalculator, SurrogateSet, fit_surrogates
from gprann.training import train
from gprann.version import __version__

__all__ = [
    "Baseline",
    "Calculator",
    "ChebyshevDescriptor",
    "Contribution",
    "Dataset",
    "GprannError",
    "Potential",
    "ReferenceEnergies",
    "Structure",
    "Surrogate",
    "SurrogateCalculator",
    "SurrogateSet",
    "__version__",
    "augment",
    "evaluate",
    "examples",
    "fit_surrogates",
    "label",
    "load",
    "neb",
    "read",
    "register_baseline",
    "relax",
    "select",
    "taylor_augment",
    "train",
    "write",
]
