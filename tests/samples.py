"""Small labelled structures for the tests of surrogates, training and potentials, and an analytic energy for them.

E = sum over pairs and images of c_ab f(r) [exp(-2 (r - r_ab)) - 2 exp(-(r - r_ab))],   f(r) = (1 - r^2 / R^2)^3:
invariant, smooth at the cutoff R, different for every pair of elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann.baselines import ReferenceEnergies
from gprann.data.prediction import Prediction, strain_matrices, volume
from gprann.data.structure import Dataset, Origin, Structure
from gprann.descriptors import ChebyshevDescriptor
from gprann.models import NetworkModel, Normalisation
from gprann.potential import Potential
from gprann.surrogate import AtomsKernel, CartesianKernel, PairsKernel, Surrogate
from reference.neighbours_oracle import image_pairs

Array = NDArray[np.float64]

REACH = 4.0
"""Cutoff R of the energy, Å."""

TRICLINIC = np.array([[4.1, 0.0, 0.0], [0.7, 3.9, 0.0], [-0.4, 0.6, 4.3]])
WATER = Structure(("O", "H", "H"), [[0.0, 0.0, 0.1], [0.78, 0.61, 0.0], [-0.76, 0.59, -0.1]])
CRYSTAL = Structure(
    ("O", "H", "H"), [[0.2, 0.1, 0.3], [1.9, 0.8, 1.1], [0.9, 2.3, 2.6]], cell=TRICLINIC, pbc=True
)
_BOND = {("H", "H"): (0.8, 0.9), ("H", "O"): (2.0, 1.1), ("O", "O"): (1.1, 1.4)}  # c in eV, r in Å


def labels(structure: Structure) -> tuple[float, Array]:
    """Energy, eV, and forces (N, 3), eV/Å."""
    energy, forces = 0.0, np.zeros((len(structure), 3))
    for i, j, v in image_pairs(structure, REACH):
        pair = sorted((structure.symbols[i], structure.symbols[j]))
        depth, bond = _BOND[pair[0], pair[1]]
        r = float(np.linalg.norm(v))
        a, x = np.exp(-(r - bond)), 1 - (r / REACH) ** 2
        well, slope = a * a - 2 * a, 2 * a - 2 * a * a
        energy += 0.5 * depth * x**3 * well
        # Each pair comes twice, as (i, j) and (j, i): half of the energy, but the whole force on i from here.
        derivative = depth * (x**3 * slope - 6 * r / REACH**2 * x**2 * well)
        forces[i] += derivative * v / r
    return energy, forces


def stressed(structure: Structure) -> Structure:
    """The structure with the stress of the analytic energy, by central differences of the strained crystal."""
    stress = np.zeros(6)
    for v, strain in enumerate(strain_matrices(np.eye(6))):
        energies = []
        for step in (1e-4, -1e-4):
            deformation = np.eye(3) + step * strain
            deformed = structure.replace(
                positions=structure.positions @ deformation, cell=structure.cell @ deformation
            )
            energies.append(labels(deformed)[0])
        stress[v] = (energies[0] - energies[1]) / (2e-4 * volume(structure))
    return structure.replace(stress=stress)


def labelled(structure: Structure) -> Structure:
    energy, forces = labels(structure)
    return structure.replace(energy=energy, forces=forces)


def rattled(structure: Structure, n: int, size: float, seed: int, name: str) -> Dataset:
    """n labelled copies with displacements uniform in -size .. size (Å), each with an origin of its own."""
    rng = np.random.default_rng(seed)
    return Dataset(
        labelled(
            structure.replace(
                positions=structure.positions + rng.uniform(-size, size, size=(len(structure), 3)),
                origin=Origin(name, index),
            )
        )
        for index in range(n)
    )


def waters(n: int, *, size: float = 0.1, seed: int = 0) -> Dataset:
    return rattled(WATER, n, size, seed, "waters")


def crystals(n: int, *, size: float = 0.15, seed: int = 0) -> Dataset:
    return rattled(CRYSTAL, n, size, seed, "crystals")


def strained_crystals(n: int, *, size: float = 0.15, seed: int = 0) -> Dataset:
    """Crystals in different cells, with stresses."""
    rng = np.random.default_rng(seed)
    result = []
    for crystal in crystals(n, size=size, seed=seed):
        deformation = np.eye(3) + strain_matrices(rng.uniform(-0.04, 0.04, size=6))
        deformed = crystal.replace(positions=crystal.positions @ deformation, cell=crystal.cell @ deformation)
        result.append(stressed(labelled(deformed)))
    return Dataset(result)


def chain(symbols: Sequence[str], *, bond: float = 1.1) -> Structure:
    """Atoms on a straight line that is parallel to no axis."""
    direction = np.array([2.0, -1.0, 2.0]) / 3.0
    return Structure(tuple(symbols), np.arange(len(symbols))[:, None] * bond * direction)


DESCRIPTOR = ChebyshevDescriptor(
    ["H", "O"], radial_order=5, radial_cutoff=3.7, angular_order=3, angular_cutoff=3.1
)


def potential(
    *,
    members: int = 3,
    hidden: Sequence[int] = (5, 4),
    activation: str = "tanh",
    descriptor: ChebyshevDescriptor = DESCRIPTOR,
    seed: int = 0,
) -> Potential:
    """A potential with random parameters, as good as a trained one for everything but accuracy."""
    rng = np.random.default_rng(seed)
    n_species = len(descriptor.species)
    model = NetworkModel(descriptor.size, hidden, n_species, activation)
    shape = (n_species, descriptor.size)
    return Potential(
        descriptor,
        Normalisation(rng.normal(size=shape), rng.uniform(0.2, 1.0, size=shape)),
        model,
        np.array([model.initial(rng) for _ in range(members)]),
        baseline=ReferenceEnergies(
            energies=dict(zip(descriptor.species, rng.normal(size=n_species).tolist(), strict=True))
        ),
        energy_scale=0.7,
        provenance={"made": "at random", "numbers": [1, 2.5, None]},
    )


def conformers(n: int, seed: int) -> Dataset:
    """Return n structures each of two shapes of one molecule, of which a Cartesian surrogate knows one alone."""
    rng = np.random.default_rng(seed)
    found = []
    for shape in (
        [[0.0, 0, 0], [1.2, 0, 0], [2.4, 0, 0], [3.6, 0, 0]],
        [[0.0, 0, 0], [1.2, 0, 0], [1.2, 1.2, 0], [0, 4.2, 0]],
    ):
        for _ in range(n):
            shift = 0.03 * rng.normal(size=(4, 3))
            shift -= shift.mean(axis=0)
            energy = float((shift**2).sum())
            found.append(
                Structure(("C", "H", "O", "N"), np.array(shape) + shift, energy=energy, forces=-2.0 * shift)
            )
    return Dataset(found)


def uncalibrated(surrogate: Surrogate, prediction: Prediction) -> tuple[Array, Array]:
    """The standard deviations of energies and forces that follow from the kernel."""
    assert prediction.energy_std is not None
    assert prediction.forces_std is not None
    factors = surrogate.calibration
    return prediction.energy_std / factors.energy, np.array(prediction.forces_std) / factors.force


FIXED: dict[str, Any] = {"length": 3.0, "energy_noise": 1e-4, "force_noise": 2e-5}
"""Hyperparameters with which these structures are learnt."""
KERNELS = {kind.name: kind().fingerprint for kind in (AtomsKernel, PairsKernel, CartesianKernel)}
MAKERS: list[Callable[[int], Dataset]] = [waters, crystals]


def system(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a positive definite matrix and a right-hand side."""
    half = rng.normal(size=(n, n))
    return half @ half.T + 0.1 * np.eye(n), rng.normal(size=n)
