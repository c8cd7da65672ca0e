"""gprann: neural-network interatomic potentials from a few hundred first-principles energies and forces.

Units: Å, eV, eV/Å, eV/Å³; energies are total energies per structure.

The environment variable GPRANN_EXTENSIONS names modules, divided by commas, that register descriptors, kernels and the
like: they are imported with gprann, for commands and worker processes to know their names.
"""

import importlib as _importlib
import os as _os

from gprann import examples
from gprann.active import neb, relax
from gprann.active.select import select
from gprann.augmentation import augment, taylor_augment
from gprann.baselines import Baseline, Contribution, ReferenceEnergies, register_baseline
from gprann.calculator import Calculator
from gprann.data.structure import Dataset, Structure
from gprann.descriptors import ChebyshevDescriptor, Descriptor, register_descriptor
from gprann.errors import GprannError
from gprann.evaluation import evaluate
from gprann.io import read, write
from gprann.labelling import label
from gprann.options import option
from gprann.pipeline import run_file as run
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
    "Descriptor",
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
    "option",
    "read",
    "register_baseline",
    "register_descriptor",
    "relax",
    "run",
    "select",
    "taylor_augment",
    "train",
    "write",
]

for _name in filter(None, map(str.strip, _os.environ.get("GPRANN_EXTENSIONS", "").split(","))):
    try:
        _importlib.import_module(_name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"GPRANN_EXTENSIONS names the module '{_name}', which cannot be imported ({error}): correct the "
            "name, or add its folder to PYTHONPATH"
        ) from error
