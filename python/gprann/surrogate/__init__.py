"""Gaussian-process surrogates for energies and forces."""

from gprann.surrogate.calculator import SurrogateCalculator
from gprann.surrogate.hyperparameters.criteria import Hyperparameters
from gprann.surrogate.hyperparameters.kernel_selection import AutoKernel
from gprann.surrogate.kernels.atoms import AtomsKernel
from gprann.surrogate.kernels.base import Kernel, register_kernel
from gprann.surrogate.kernels.cartesian import CartesianKernel
from gprann.surrogate.kernels.pairs import PairsKernel
from gprann.surrogate.kernels.soap import SoapKernel, SoapOptions
from gprann.surrogate.options import SurrogateOptions
from gprann.surrogate.sets.atom_matching import in_one_order
from gprann.surrogate.sets.partition import partition
from gprann.surrogate.sets.surrogate_set import SurrogateSet, fit_surrogates, load_surrogate
from gprann.surrogate.solvers.base import Solver, register_solver
from gprann.surrogate.solvers.cholesky import Cholesky
from gprann.surrogate.solvers.conjugate_gradients import ConjugateGradients
from gprann.surrogate.solvers.inducing import Inducing
from gprann.surrogate.solvers.plan import AutoSolver, memory_needed
from gprann.surrogate.surrogate import Surrogate

__all__ = [
    "AtomsKernel",
    "AutoKernel",
    "AutoSolver",
    "CartesianKernel",
    "Cholesky",
    "ConjugateGradients",
    "Hyperparameters",
    "Inducing",
    "Kernel",
    "PairsKernel",
    "SoapKernel",
    "SoapOptions",
    "Solver",
    "Surrogate",
    "SurrogateCalculator",
    "SurrogateOptions",
    "SurrogateSet",
    "fit_surrogates",
    "in_one_order",
    "load_surrogate",
    "memory_needed",
    "partition",
    "register_kernel",
    "register_solver",
]
