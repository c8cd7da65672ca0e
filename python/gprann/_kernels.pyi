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
def solve_lower(blas: Blas, L: Array, B: Array, n_threads: int) -> None: ...
def solve_lower_transposed(blas: Blas, L: Array, B: Array, n_threads: int) -> None: ...

class Neighbours:
    def __init__(
        self, first_atom: Int64s, first_pair: Int64s, neighbour: Int32s, vectors: Array, species: Int32s
    ) -> None: ...

class ChebyshevDescriptor:
    def __init__(
        self,
        radial_order: int,
        radial_cutoff: float,
        angular_order: int,
        angular_cutoff: float,
        weights: Array,
    ) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def cutoff(self) -> float: ...
    def values(self, neighbours: Neighbours, n_threads: int) -> Array: ...
    def jvp(self, neighbours: Neighbours, direction: Array, n_threads: int) -> Array: ...
    def vjp(self, neighbours: Neighbours, cotangent: Array, n_threads: int) -> tuple[Array, Array]: ...
    def jacobian(self, neighbours: Neighbours, structure: int) -> Array: ...

def pair_distances(
    neighbours: Neighbours, structure: int, exponent: float, cutoff: float
) -> tuple[Array, Array]: ...

class SquaredExponential:
    def __init__(self, length: float, log_length_derivative: bool = False) -> None: ...

class FeatureSets:
    def __init__(self, kind_rows: Int64s, features: Array, jacobians: Array, directions: Int64s) -> None: ...
    @property
    def observations(self) -> int: ...

def covariance(
    A: FeatureSets,
    B: FeatureSets,
    kernel: SquaredExponential,
    blas: Blas,
    lower: bool,
    n_threads: int,
    K: Array,
) -> None: ...
def energy_covariance(
    A: FeatureSets, B: FeatureSets, kernel: SquaredExponential, blas: Blas, n_threads: int, K: Array
) -> None: ...
def energy_variance(A: FeatureSets, kernel: SquaredExponential) -> Array: ...
def predict_rows(
    first: Int64s,
    features: Array,
    energy_weight: Array,
    slope: Array,
    query_first: Int64s,
    query: Array,
    kernel: SquaredExponential,
    blas: Blas,
    n_threads: int,
) -> tuple[Array, Array]: ...
def covariance_product(
    first: Int64s,
    features: Array,
    energy_weight: Array,
    slope: Array,
    kernel: SquaredExponential,
    blas: Blas,
    n_threads: int,
) -> tuple[Array, Array]: ...

class AtomFeatures:
    def __init__(self, features: Array, rows: Int64s) -> None: ...

class Network:
    def __init__(self, sizes: list[int], activation: str, n_species: int) -> None: ...
    @property
    def n_parameters(self) -> int: ...
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
