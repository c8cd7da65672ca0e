"""Neural-network potentials: one network, or a committee that differs by seed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gprann import _core
from gprann.data.neighbours import Neighbourhood
from gprann.data.prediction import Prediction
from gprann.data.strain import voigt_stress
from gprann.descriptors import ChebyshevDescriptor
from gprann.errors import FormatError
from gprann.io.reading import Source, structures
from gprann.model_file import read_model_file, write_model_file
from gprann.models import NetworkModel, Normalisation
from gprann.runtime.parallel import n_threads

__all__ = ["AtomicPrediction", "Potential", "load"]

Array = NDArray[np.float64]
_BATCH = 256  # structures whose neighbour lists are held at a time


class AtomicPrediction:
    """Predictions of all K members for a batch of structures, atoms numbered through.

    Attributes
    ----------
    atom_energies : ndarray, shape (K, n_atoms), eV
        Reference energies of the elements included.
    forces : ndarray, shape (K, n_atoms, 3), eV/Å
    virials : ndarray, shape (K, n, 3, 3), eV
        dE/d(strain).
    first_atom : ndarray of int64, shape (n + 1,)
    """

    def __init__(
        self, atom_energies: Array, forces: Array, virials: Array, first_atom: NDArray[np.int64]
    ) -> None:
        self.atom_energies = atom_energies
        self.forces = forces
        self.virials = virials
        self.first_atom = first_atom

    @property
    def energies(self) -> Array:
        """Total energies, shape (K, n), eV."""
        sums: Array = np.add.reduceat(self.atom_energies, self.first_atom[:-1], axis=1)
        return sums


class Potential:
    """A trained potential with K members on one descriptor; K = 1 is a single network.

    Parameters
    ----------
    descriptor : ChebyshevDescriptor
    normalisation : Normalisation
        Of the descriptor, from the training set.
    model : NetworkModel
    parameters : ndarray, shape (K, P)
    reference_energies : ndarray, shape (S,), eV
        E0 of each species, added for every atom.
    energy_scale : float, eV
        Unit of the networks' output.
    provenance : mapping
        How the potential was made: plain data.

    Examples
    --------
    >>> import gprann
    >>> data = gprann.examples.hydrogen(7)
    >>> descriptor = gprann.ChebyshevDescriptor(["H"], radial_order=10, radial_cutoff=8.0, angular_order=None)
    >>> potential = gprann.train(data, descriptor, hidden=(5, 5), optimizer="lm", iterations=20, seed=1)
    >>> len(potential), potential.species, potential.predict(data).energy.shape
    (1, ('H',), (7,))
    """

    def __init__(
        self,
        descriptor: ChebyshevDescriptor,
        normalisation: Normalisation,
        model: NetworkModel,
        parameters: Array,
        reference_energies: Array,
        *,
        energy_scale: float = 1.0,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.descriptor = descriptor
        self.normalisation = normalisation
        self.model = model
        self.parameters = np.ascontiguousarray(np.atleast_2d(parameters))
        self.reference_energies = np.asarray(reference_energies, dtype=np.float64)
        self.energy_scale = float(energy_scale)
        self.provenance = dict(provenance or {})

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, member: int | slice) -> Potential:
        """Return one member, or some, as a potential of its own."""
        chosen = self.parameters[member]
        return Potential(
            self.descriptor,
            self.normalisation,
            self.model,
            chosen,
            self.reference_energies,
            energy_scale=self.energy_scale,
            provenance=self.provenance,
        )

    @property
    def species(self) -> tuple[str, ...]:
        """Elements the potential knows."""
        return self.descriptor.species

    @property
    def reference_energy_of(self) -> dict[str, float]:
        """E0 of each element, eV."""
        return dict(zip(self.species, self.reference_energies.tolist(), strict=True))

    @property
    def cutoff(self) -> float:
        """Distance beyond which atoms do not see each other, Å."""
        return self.descriptor.cutoff

    def __repr__(self) -> str:
        hidden = "-".join(map(str, self.model.sizes))
        return f"Potential({len(self)} x {hidden} {self.model.activation}; {self.descriptor!r})"

    # -------------------------------------------------------------- predict
    def evaluate(self, neighbours: Neighbourhood) -> AtomicPrediction:
        """Return atomic energies, forces and virials of every member for prepared neighbour lists."""
        energies, gradients, virials = _core.evaluate_committee(
            self.model.kernel,
            self.descriptor.kernel,
            self.normalisation.mean,
            self.normalisation.inverse_scale,
            self.parameters,
            neighbours.kernel,
            n_threads(),
        )
        energies *= self.energy_scale
        energies += self.reference_energies[neighbours.species]
        gradients *= -self.energy_scale
        virials *= self.energy_scale
        return AtomicPrediction(energies, gradients, virials, neighbours.first_atom)

    def predict(self, data: Source) -> Prediction:
        """Predict energies, forces and stresses; a committee with mean and standard deviation.

        Parameters
        ----------
        data : Dataset, or anything that `gprann.read` takes

        Returns
        -------
        Prediction

        Raises
        ------
        DataError
            If a structure has an element that the potential does not know, or atoms on top of each other.
        """
        data = structures(data)
        energies: list[Array] = [np.zeros((len(self), 0))]
        stresses: list[Array] = [np.zeros((0, 6))]
        member_forces: list[Array] = []
        for begin in range(0, len(data), _BATCH):
            batch = data[begin : begin + _BATCH]
            result = self.evaluate(self.descriptor.neighbours(batch))
            energies.append(result.energies)
            stresses.append(
                np.array(
                    [voigt_stress(s, v) for s, v in zip(batch, result.virials.mean(axis=0), strict=True)]
                )
            )
            member_forces += np.split(result.forces, result.first_atom[1:-1], axis=1)
        member_energy = np.concatenate(energies, axis=1)
        committee = len(self) > 1
        return Prediction(
            member_energy.mean(axis=0),
            [forces.mean(axis=0) for forces in member_forces],
            energy_std=member_energy.std(axis=0) if committee else None,
            forces_std=[forces.std(axis=0) for forces in member_forces] if committee else None,
            stress=np.concatenate(stresses),
            member_energy=member_energy if committee else None,
            member_forces=member_forces if committee else None,
        )

    # ----------------------------------------------------------------- file
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the potential to one portable file; see `load`.

        Raises
        ------
        WriteError
            If the file cannot be written; what stood there before is unchanged.
        """
        document = {
            "descriptor": self.descriptor.to_dict(),
            "model": self.model.to_dict(),
            "energy_scale": self.energy_scale,
            "units": {"energy": "eV", "length": "Å"},
            "provenance": self.provenance,
        }
        arrays = {
            "parameters": self.parameters,
            "feature_mean": self.normalisation.mean,
            "feature_inverse_scale": self.normalisation.inverse_scale,
            "reference_energies": self.reference_energies,
        }
        write_model_file(path, document, arrays)


def load(path: str | os.PathLike[str]) -> Potential:
    """Read a potential that `Potential.save` wrote.

    Raises
    ------
    FormatError
        If the file is missing, damaged, or of a newer format.
    """
    document, arrays = read_model_file(path)
    try:
        descriptor = ChebyshevDescriptor.from_dict(document["descriptor"])
        shape = document["model"]
        model = NetworkModel(descriptor.size, shape["hidden"], len(descriptor.species), shape["activation"])
        scale, provenance = float(document["energy_scale"]), dict(document.get("provenance", {}))
        if not np.isfinite(scale):
            raise ValueError(f"energy_scale is {scale}")
        table = (len(descriptor.species), descriptor.size)
        expected = {
            "parameters": (max(1, len(arrays["parameters"])), model.n_parameters),
            "feature_mean": table,
            "feature_inverse_scale": table,
            "reference_energies": table[:1],
        }
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise FormatError(
            f"{os.fspath(path)}: the description of the model is incomplete ({error})"
        ) from error
    for name, dimensions in expected.items():
        found = arrays[name].shape if name in arrays else None
        if found != dimensions:
            raise FormatError(
                f"{os.fspath(path)}: '{name}' has shape {found}, expected {dimensions}; the file is damaged"
            )
    return Potential(
        descriptor,
        Normalisation(arrays["feature_mean"], arrays["feature_inverse_scale"]),
        model,
        arrays["parameters"],
        arrays["reference_energies"],
        energy_scale=scale,
        provenance=provenance,
    )
