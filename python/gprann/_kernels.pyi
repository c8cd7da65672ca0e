"""Signatures of the compiled kernels; the three builds `_core_base`, `_core_v3`, `_core_v4` share them."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]

class Blas:
    def __init__(
        self, gemm: object = None, syrk: object = None, trsm: object = None, potrf: object = None
    ) -> None: ...

def cholesky(blas: Blas, K: Array, n_threads: int) -> int: ...
def add_gram(blas: Blas, A: Array, C: Array, n_threads: int) -> None: ...
def add_gram_of_rows(blas: Blas, A: Array, C: Array, n_threads: int) -> None: ...
def solve_lower(blas: Blas, L: Array, B: Array, n_threads: int) -> None: ...
def solve_lower_transposed(blas: Blas, L: Array, B: Array, n_threads: int) -> None: ...

class Neighbours:
    def __init__(
        self, first_atom: Int64s, first_pair: Int64s, neighbour: Int32s, vectors: Array, species: Int32s
    ) -> None: ...

class MovingNeighbours:
    def __init__(self, species: Int32s, cutoff: float, skin: float) -> None: ...
    def update(self, positions: Array, cell: Array, periodic: NDArray[np.bool_]) -> bool: ...
    def arrays(self) -> tuple[Int64s, Int32s, Array]: ...
    def nearest(self) -> tuple[int, int, float]: ...
    def lower_bound(self) -> float: ...
    @property
    def n_candidates(self) -> int: ...

class Descriptor:
    @property
    def size(self) -> int: ...
    @property
    def cutoff(self) -> float: ...
    def values(self, neighbours: Neighbours, n_threads: int) -> Array: ...
    def jvp(self, neighbours: Neighbours, direction: Array, strains: Array, n_threads: int) -> Array: ...
    def vjp(self, neighbours: Neighbours, cotangent: Array, n_threads: int) -> tuple[Array, Array]: ...
    def jacobian(self, neighbours: Neighbours, structure: int, strained: bool) -> Array: ...

class ChebyshevDescriptor(Descriptor):
    def __init__(
        self,
        radial_order: int,
        radial_cutoff: float,
        angular_order: int,
        angular_cutoff: float,
        weights: Array,
    ) -> None: ...

class DensityDescriptor(Descriptor):
    def __init__(
        self,
        n_max: tuple[int, int, int],
        l_max: tuple[int, int, int],
        cutoffs: tuple[float, float, float],
        decay: float,
        weights: Array,
    ) -> None: ...
    def terms(self) -> NDArray[np.int32]: ...

class SymmetryFunctionDescriptor(Descriptor):
    def __init__(self, n_species: int, functions: Array, cutoff_type: int, inner_cutoff: float) -> None: ...

class ProjectedDescriptor(Descriptor):
    def __init__(self, base: Descriptor, matrices: list[Array], offsets: Array) -> None: ...

class StoredDescriptor(Descriptor):
    def __init__(self, base: Descriptor, neighbours: Neighbours, n_threads: int) -> None: ...

class PythonDescriptor(Descriptor):
    def __init__(self, descriptor: object, make_neighbours: object) -> None: ...

def neighbour_list(
    first_atom: Int64s,
    positions: Array,
    cells: Array,
    periodic: NDArray[np.bool_],
    cutoff: float,
    n_threads: int,
) -> tuple[Int64s, Int32s, Array, int]: ...
def pair_distances(
    neighbours: Neighbours, structure: int, exponent: float, cutoff: float
) -> tuple[Array, Array]: ...

class RadialKernel:
    @property
    def length(self) -> float: ...

class SquaredExponential(RadialKernel):
    def __init__(self, length: float, log_length_derivative: bool = False, constant: float = 0.0) -> None: ...

class Matern52(RadialKernel):
    def __init__(self, length: float, log_length_derivative: bool = False, constant: float = 0.0) -> None: ...

class FeatureSets:
    def __init__(self, kind_rows: Int64s, features: Array, jacobians: Array, directions: Int64s) -> None: ...
    @property
    def observations(self) -> int: ...
    @property
    def kind_rows(self) -> Int64s: ...
    @property
    def features(self) -> Array: ...
    def fold(self, weights: Array, n_threads: int) -> tuple[Array, Array]: ...

def covariance(
    A: FeatureSets,
    B: FeatureSets,
    kernel: RadialKernel,
    blas: Blas,
    lower: bool,
    n_threads: int,
    K: Array,
) -> None: ...
def energy_covariance(
    A: FeatureSets, B: FeatureSets, kernel: RadialKernel, blas: Blas, n_threads: int, K: Array
) -> None: ...
def energy_variance(A: FeatureSets, kernel: RadialKernel) -> Array: ...
def predict_rows(
    first: Int64s,
    features: Array,
    energy_weight: Array,
    slope: Array,
    query_first: Int64s,
    query: Array,
    kernel: RadialKernel,
    blas: Blas,
    n_threads: int,
) -> tuple[Array, Array]: ...
def covariance_product(
    first: Int64s,
    features: Array,
    energy_weight: Array,
    slope: Array,
    kernel: RadialKernel,
    blas: Blas,
    n_threads: int,
) -> tuple[Array, Array]: ...
def coulomb_molecule(
    positions: Array, charges: Array, widths: Array, shape: str, n_threads: int
) -> tuple[Array, Array, Array]: ...

class EwaldSum:
    def __init__(self, lattice: Array, splitting: float, cutoff: float, reciprocal_cutoff: float) -> None: ...
    def sums(
        self, positions: Array, charges: Array, widths: Array, shape: str, n_threads: int
    ) -> tuple[Array, Array, Array]: ...

def environment_rows(
    descriptor: Descriptor,
    neighbours: Neighbours,
    features: Array,
    scale: Array,
    first: Int64s,
    environments: Array,
    kernel: RadialKernel,
    first_gradient: Int64s,
    strain_length: Array,
    n_threads: int,
    energies: Array,
    gradients: Array,
) -> None: ...

class AtomFeatures:
    def __init__(self, features: Array, rows: Int64s) -> None: ...

class AtomModel:
    @property
    def n_parameters(self) -> int: ...

class Network(AtomModel):
    def __init__(self, sizes: list[int], activation: str, n_species: int) -> None: ...
    def energies(self, parameters: Array, atoms: AtomFeatures, n_threads: int) -> Array: ...
    def atoms(self, parameters: Array, atoms: AtomFeatures, n_threads: int) -> tuple[Array, Array]: ...
    def energy_loss(
        self,
        parameters: Array,
        atoms: AtomFeatures,
        batch: Int64s,
        targets: Array,
        weights: Array,
        n_threads: int,
    ) -> tuple[float, Array]: ...
    def energy_rows(self, parameters: Array, atoms: AtomFeatures) -> tuple[Array, Array]: ...
    def normal_equations(
        self,
        parameters: Array,
        atoms: AtomFeatures,
        targets: Array,
        weights: Array,
        blas: Blas,
        n_threads: int,
        H: Array,
        b: Array,
    ) -> float: ...

class CommitteeWorkspace:
    def __init__(self) -> None: ...

class Guard:
    def __init__(self, factors: Array, offset: Array) -> None: ...

class Polynomial(AtomModel):
    def __init__(self, input_size: int, degree: int, n_species: int) -> None: ...

def polynomial_rows(
    model: Polynomial,
    descriptor: Descriptor,
    neighbours: Neighbours,
    features: Array,
    inverse_scale: Array,
    n_threads: int,
    energies: Array,
    forces: Array | None,
    strains: Array | None,
) -> None: ...
def evaluate_committee(
    model: AtomModel,
    descriptor: Descriptor,
    mean: Array,
    inverse_scale: Array,
    parameters: Array,
    neighbours: Neighbours,
    n_threads: int,
    workspace: CommitteeWorkspace,
    guard: Guard | None = ...,
) -> tuple[Array, Array, Array, Array | None]: ...
def evaluate_moving(
    model: AtomModel,
    descriptor: Descriptor,
    mean: Array,
    inverse_scale: Array,
    parameters: Array,
    neighbours: MovingNeighbours,
    n_threads: int,
    workspace: CommitteeWorkspace,
    guard: Guard | None = ...,
) -> tuple[Array, Array, Array, Array | None]: ...

class Labels:
    def __init__(
        self,
        energies: Array,
        energy_weights: Array,
        forces: Array,
        force_weights: Array,
        virials: Array,
        virial_weights: Array,
        energy_threshold: float = ...,
        force_threshold: float = ...,
        virial_threshold: float = ...,
    ) -> None: ...

class CombinedLoss:
    def __init__(
        self,
        network: Network,
        descriptor: Descriptor,
        neighbours: Neighbours,
        atoms: AtomFeatures,
        order: Int64s,
        inverse_scale: Array,
    ) -> None: ...
    def value(
        self, parameters: Array, labels: Labels, batch: Int64s, n_threads: int
    ) -> tuple[float, float, float]: ...
    def gradient(
        self, parameters: Array, labels: Labels, batch: Int64s, n_threads: int
    ) -> tuple[tuple[float, float, float], Array]: ...
    def gauss_newton(
        self, parameters: Array, labels: Labels, batch: Int64s, v: Array, n_threads: int
    ) -> Array: ...
    def adjoint_product(
        self,
        parameters: Array,
        labels: Labels,
        batch: Int64s,
        energies: Array,
        forces: Array,
        virials: Array,
        n_threads: int,
    ) -> Array: ...
    def row_count(self, labels: Labels, batch: Int64s) -> int: ...
    def rows(
        self, parameters: Array, labels: Labels, batch: Int64s, n_threads: int, J: Array, r: Array
    ) -> tuple[float, float, float]: ...
    def normal_equations(
        self,
        parameters: Array,
        labels: Labels,
        batch: Int64s,
        blas: Blas,
        n_threads: int,
        H: Array,
        b: Array,
    ) -> tuple[float, float, float]: ...
