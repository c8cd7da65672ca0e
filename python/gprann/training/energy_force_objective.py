"""The objective of energies, forces and stresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gprann.arrays import Array, Indices
from gprann.data.neighbours import Neighbourhood
from gprann.descriptors.base import Descriptor, descriptor_from_dict, descriptor_to_dict
from gprann.models.base import AtomModel
from gprann.models.features import FeatureTable
from gprann.training.fit_data import LISTS, LabelTable, LocalData, SharedData
from gprann.training.objective import Errors, Objective, minibatches

_ROUNDS = 10
_PROBES = 8  # random signs behind an estimate of the diagonal
_TRIAL_ROWS = 5000


_THRESHOLDS = ("energy_threshold", "force_threshold")
_LABELS = tuple(item.name for item in fields(LabelTable) if item.name not in _THRESHOLDS)


@dataclass(frozen=True, slots=True)
class EnergyForceObjective:
    """Energies, forces and stresses of the structures `structures` of a shared set.

    Descriptors are computed once. Their derivatives are stored for costly descriptors and small sets alone (see
    `Descriptor.core_for`): otherwise a gradient sweeps over the neighbour lists.

    Attributes
    ----------
    shared : SharedData
        Model, descriptor, features and neighbour lists: all that does not depend on the labels.
    labels : LabelTable
    structures : ndarray of int64
    force_fraction : float
        Part of the force components that counts, drawn anew for each iteration.
    rows_of : ndarray of int64, optional
        Structures whose residuals make the normal equations; default: all of them.
    """

    shared: SharedData
    labels: LabelTable
    structures: Indices
    force_fraction: float = 1.0
    rows_of: Indices | None = None
    _core: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_core", self.shared.of_labels(self.labels))

    @classmethod
    def build(
        cls,
        model: AtomModel,
        descriptor: Descriptor,
        neighbours: Neighbourhood,
        table: FeatureTable,
        inverse_scale: Array,
        *,
        labels: LabelTable,
        **options: Any,
    ) -> EnergyForceObjective:
        """Return the objective of all structures.

        Parameters
        ----------
        model : AtomModel
        descriptor : Descriptor
        neighbours : Neighbourhood
            Of all structures; without pairs if nothing but energies is fitted.
        table : FeatureTable
        inverse_scale : ndarray, shape (S, D)
            Of the standardisation of the descriptors.
        labels : LabelTable
        **options
            force_fraction.
        """
        shared = LocalData.of(model, descriptor, neighbours, table, inverse_scale)
        return cls(shared, labels, np.arange(len(labels.energies)), **options)

    # ------------------------------------------------------------ structures
    @property
    def model(self) -> AtomModel:
        """Shape of the networks."""
        return self.shared.model

    @property
    def descriptor(self) -> Descriptor:
        """Descriptor of the atoms."""
        return self.shared.descriptor

    @property
    def size(self) -> int:
        """Number of structures."""
        return len(self.structures)

    @property
    def n_parameters(self) -> int:
        """Number of parameters P."""
        return self.shared.model.n_parameters

    @property
    def counts(self) -> Indices:
        """Atoms of each species in each structure, shape (size, S)."""
        return self.shared.counts[self.structures]

    @property
    def total_weight(self) -> float:
        """Sum of the structures' weights: loss over total weight is the mean."""
        return float(self.labels.structure_weights[self.structures].sum())

    @property
    def n_rows(self) -> int:
        """Number of residuals."""
        return int(self.rows_per_structure().sum())

    @property
    def trial_size(self) -> int:
        """Structures that suffice to tell a good random start from a bad one."""
        return max(20, _TRIAL_ROWS * self.size // max(self.n_rows, 1))

    def select(self, structures: Indices) -> EnergyForceObjective:
        """Return the objective of some of the structures; nothing is copied."""
        return replace(self, structures=self.structures[structures])

    def relabel(self, labels: LabelTable) -> EnergyForceObjective:
        """Return the objective with other labels or weights."""
        return replace(self, labels=labels)

    def draw(self, stream: tuple[int, ...], max_rows: int | None = None) -> EnergyForceObjective:
        """Return the objective of one iteration: a random choice of force components and of rows of the Jacobian.

        With more residuals than `max_rows`, the normal equations are those of structures chosen at random; the loss
        remains that of all.
        """
        labels = self.labels
        most = labels.energies.size + labels.forces.size + labels.virials.size
        if self.force_fraction >= 1.0 and (max_rows is None or most <= max_rows or self.n_rows <= max_rows):
            return (
                self  # without counting residuals or making a generator, which take longer than a small step
            )
        rng = np.random.default_rng(stream)
        chosen = self
        if self.force_fraction < 1.0:
            counts = rng.random(self.labels.forces.shape) < self.force_fraction
            weights = np.where(counts, self.labels.force_weights / self.force_fraction, 0.0)
            chosen = replace(self, labels=replace(self.labels, force_weights=weights))
        rows = chosen.rows_per_structure()
        if max_rows is not None and rows.sum() > max_rows:
            order = rng.permutation(self.size)
            count = max(1, int(np.searchsorted(np.cumsum(rows[order]), max_rows)))
            chosen = replace(chosen, rows_of=self.structures[np.sort(order[:count])])
        return chosen

    def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[tuple[Objective, Indices]]:
        """Yield minibatches of a random order."""
        return minibatches(self, rng, batch_size)

    def rows_per_structure(self) -> Indices:
        """Return the residuals of every structure, shape (size,)."""
        labels, first = self.labels, self.shared.first_atom
        forces = np.concatenate([[0], np.cumsum(np.count_nonzero(labels.force_weights > 0, axis=1))])
        rows = (
            (labels.energy_weights > 0).astype(np.int64)
            + forces[first[1:]]
            - forces[first[:-1]]
            + np.count_nonzero(labels.virial_weights > 0, axis=1)
        )
        return np.asarray(rows[self.structures], dtype=np.int64)

    # ----------------------------------------------------------------- loss
    def loss(self, parameters: Array) -> float:
        """Return the weighted sum of squared residuals."""
        return sum(self.shared.value(parameters, self._core, self.structures))

    def errors(self, parameters: Array) -> Errors:
        """Return the root mean square residuals; with Huber's thresholds those that count linearly count less."""
        if self.size == 0:
            return Errors(float("nan"), float("nan"), float("nan"))
        parts = self.shared.value(parameters, self._core, self.structures)
        weights = (self.total_weight, self.weight_of("energy"), self.weight_of("force"))
        total, energy, force = (
            float(np.sqrt(part / weight)) if weight > 0 else float("nan")
            for part, weight in zip((sum(parts), parts[0], parts[1]), weights, strict=True)
        )
        return Errors(total, energy, force)

    def weight_of(self, kind: Literal["energy", "force"]) -> float:
        """Return the sum of the weights of energies or of force components."""
        if kind == "energy":
            return float(self.labels.energy_weights[self.structures].sum())
        return float(self.labels.force_weights[self._atoms()].sum())

    def _atoms(self) -> NDArray[np.bool_]:
        """Mark the atoms of the structures."""
        first = self.shared.first_atom
        chosen = np.zeros(len(first) - 1, dtype=bool)
        chosen[self.structures] = True
        return np.repeat(chosen, np.diff(first))

    def align(self, parameters: Array, frozen: Indices) -> Array:
        """Return the parameters with the best biases of the outputs: linear least squares of the energies alone.

        Among thousands of forces a common error of all energies weighs so little that damped steps leave it standing.
        """
        biases = self.model.output_biases
        if np.isin(biases, frozen).any():
            return parameters
        residuals = (self.shared.energies(parameters) - self.labels.energies)[self.structures]
        shift = self._best_shift(residuals, self.counts)
        result = parameters.copy()
        result[biases] += shift
        return result

    def _best_shift(self, residuals: Array, counts: Indices) -> Array:
        """Return the change of the energy of each element, shape (S,), that lowers the loss of the energies most."""
        shift = np.zeros(counts.shape[1])
        weights = self.labels.energy_weights[self.structures]
        if not weights.any():  # forces alone are fitted: the zero of energy is free
            weights = self.labels.structure_weights[self.structures]
        if not np.isfinite(residuals).all():
            return shift
        threshold = self.labels.energy_threshold
        rounds = 1 if np.isinf(threshold) else _ROUNDS  # Huber's function by reweighted least squares
        for _ in range(rounds):
            left = residuals + counts @ shift
            robust = np.minimum(1.0, threshold / np.maximum(np.abs(left), 1e-300))
            roots = np.sqrt(weights * robust)
            change, *_ = np.linalg.lstsq(roots[:, None] * counts, -roots * left, rcond=None)
            shift = shift + change
        before, after = (
            weights @ _huber(value, threshold) for value in (residuals, residuals + counts @ shift)
        )
        return shift if after < before else np.zeros_like(shift)

    def gradient(self, parameters: Array, batch: Indices | None = None) -> tuple[float, Array]:
        """Return loss and gradient (P,) of some structures; default: of all."""
        structures = self.structures if batch is None else self.structures[batch]
        parts, gradient = self.shared.gradient(parameters, self._core, structures)
        return sum(parts), gradient

    def normal_equations(self, parameters: Array, hessian: Array, slope: Array) -> float:
        """Fill the lower triangle of JᵀWJ (P, P) and JᵀWr (P,); return rᵀWr."""
        rows = self.structures if self.rows_of is None else self.rows_of
        parts = self.shared.normal_equations(parameters, self._core, rows, hessian, slope)
        if self.rows_of is None:
            return sum(parts)
        # Both of the same rows: the step then solves a least-squares problem with far more rows than parameters. With
        # the slope of all rows it would be overlong wherever the sample is poor.
        scale = self.size / len(rows)
        hessian *= scale
        slope *= scale
        return self.loss(parameters)

    def jacobian(self, parameters: Array) -> tuple[float, Array, Array]:
        """Return rᵀWr, the rows W^(1/2) J (rows, P) and the residuals W^(1/2) r (rows,)."""
        return self.shared.rows(parameters, self._core, self.structures)

    def gauss_newton(self, parameters: Array, v: Array) -> Array:
        """Return JᵀWJ v (P,)."""
        return self.shared.gauss_newton(parameters, self._core, self.structures, v)

    def diagonal(self, parameters: Array, rng: np.random.Generator) -> Array:
        """Return an estimate of the diagonal of JᵀWJ (P,).

        Mean square of JᵀW^½ z over random signs z: Bekas, Kokiopoulou, Saad, Appl. Numer. Math. 57, 1214 (2007).
        """
        n, n_atoms = len(self.labels.energies), len(self.labels.forces)
        squares = np.zeros(self.model.n_parameters)
        for _ in range(_PROBES):
            energies, forces, virials = (
                rng.choice([-1.0, 1.0], size=shape) for shape in ((n,), (n_atoms, 3), (n, 6))
            )
            z = (energies, forces, virials)
            squares += self.shared.adjoint_product(parameters, self._core, self.structures, z) ** 2
        return squares / _PROBES

    # ------------------------------------------------------------------ file
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that make up the objective."""
        return {
            **self.shared.arrays(),
            **{name: getattr(self.labels, name) for name in _LABELS},
        }

    def settings(self) -> dict[str, Any]:
        """Return the rest of it, as plain data."""
        thresholds = {
            name: None if np.isinf(getattr(self.labels, name)) else getattr(self.labels, name)
            for name in _THRESHOLDS
        }
        return {
            "kind": "combined",
            "descriptor": descriptor_to_dict(self.shared.descriptor),
            "force_fraction": self.force_fraction,
            **thresholds,
        }

    @classmethod
    def from_arrays(
        cls, model: AtomModel, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, Any]
    ) -> EnergyForceObjective:
        """Make an objective of what `arrays` and `settings` gave."""
        values: dict[str, Any] = {name: arrays[name] for name in _LABELS}
        for name in _THRESHOLDS:
            values[name] = np.inf if settings[name] is None else settings[name]
        return cls.build(
            model,
            descriptor_from_dict(settings["descriptor"]),
            Neighbourhood(*(arrays[name] for name in LISTS)),
            FeatureTable(arrays["features"], arrays["rows"], arrays["order"]),
            arrays["inverse_scale"],
            labels=LabelTable(**values),
            force_fraction=settings["force_fraction"],
        )


def _huber(residuals: Array, threshold: float) -> Array:
    size = np.abs(residuals)
    inner: Array = np.minimum(size, threshold)
    return inner * (2 * size - inner)
