"""The reference of an exploration: labels that are computed once, and simulations of which every step is kept."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gprann.data.structure import Dataset, Structure
from gprann.dynamics.options import MdOptions
from gprann.errors import ConfigError, GprannError
from gprann.io.reading import structures
from gprann.labelling import LabelOptions, Record, label
from gprann.labelling.calculators import CalculatorSpec
from gprann.labelling.process import LabellingError, WorkerProcess
from gprann.sampling.options import ReferenceOptions
from gprann.sampling.replica import Frame

_log = logging.getLogger(__name__)
LABELS, CALLS = "labels.extxyz", "reference_md.extxyz"


@dataclass(frozen=True, slots=True)
class Labelled:
    """Structures with labels that can be fitted, and why others have none.

    Attributes
    ----------
    data : Dataset
    refused : tuple of str
        Reasons.
    """

    data: Dataset
    refused: tuple[str, ...]


class Reference:
    """The calculator of an exploration.

    Structures are labelled without their constraints: many programs report a force of zero on an atom that is fixed,
    and a potential that is fitted to these zeros is wrong for all atoms like it (Xu et al., 2023).

    Parameters
    ----------
    options : ReferenceOptions
    folder : Path
        Of the exploration, for the records.
    """

    def __init__(self, options: ReferenceOptions, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._spec = CalculatorSpec(options.calculator, options.options or {})

    def label(self, chosen: Sequence[Structure]) -> Labelled:
        """Return structures with labels; what the record holds is not computed again.

        Raises
        ------
        ConfigError
            If the calculator cannot be made, or has no forces.
        GprannError
            If it failed for every structure.
        """
        if not chosen:
            return Labelled(Dataset(), ())
        result = label(
            Dataset(structure.replace(constraints=()) for structure in chosen),
            self._options.calculator,
            self._folder / LABELS,
            options=self._options.options,
            **LabelOptions.part_of(self._options).to_dict(),
        )
        if not len(result.labelled):
            raise GprannError(
                f"reference.calculator = '{self._options.calculator}': no structure could be labelled; the first: "
                f"{result.failures[0].reason}"
            )
        failed = [f"structure {item.index}: {item.reason}" for item in result.failures]
        sound = self._check(result.labelled)
        return Labelled(sound.data, (*failed, *sound.refused))

    def _check(self, data: Dataset) -> Labelled:
        """Leave out structures with absurd forces."""
        kept, refused = [], []
        for structure in data:
            if structure.forces is None:
                raise ConfigError(
                    f"reference.calculator = '{self._options.calculator}': gives no forces; choose one that does"
                )
            norms = np.linalg.norm(structure.forces, axis=1)
            atom = int(np.argmax(norms))
            if norms[atom] <= self._options.max_force:
                kept.append(structure)
                continue
            refused.append(
                f"the force on atom {atom} ({structure.symbols[atom]}) is {norms[atom]:.3g} eV/Å, above max_force = "
                f"{self._options.max_force:g} eV/Å"
            )
        return Labelled(Dataset(kept), tuple(refused))

    def simulate(self, begin: Frame, steps: int, stride: int, options: MdOptions) -> Labelled:
        """Run molecular dynamics with the reference, and return every so many-th structure with its labels.

        Each step is computed once: the same simulation after an interruption finds its steps in the record.

        Parameters
        ----------
        begin : Frame
            Where it begins.
        steps, stride : int
        options : MdOptions
            Temperature and the like; `start` says whether the momenta of the frame count.

        Raises
        ------
        ConfigError
            If the calculator cannot be made, or has no forces.
        """
        from gprann.dynamics.integrators import Integrator
        from gprann.dynamics.start import begin as begin_state

        arrays = {**begin.structure.arrays, "momenta": begin.momenta}
        state = begin_state(
            begin.structure.replace(arrays=arrays), begin.structure.without_labels().to_ase(), options
        )
        integrator, record = Integrator(options), Record(self._folder / CALLS)
        worker = WorkerProcess(self._spec, self._folder / "worker", timeout=self._options.timeout)
        bare = begin.structure.replace(constraints=())
        found: list[Structure] = []

        def evaluate() -> None:
            known = self._compute(bare.with_positions(state.positions, cell=state.cell), record, worker)
            state.energy, state.stress = float(known.energy or 0.0), known.stress
            state.forces[...] = np.asarray(known.forces) * state.free
            found.append(known)

        try:
            evaluate()
            while state.step < steps:
                integrator.step(state, evaluate)
        except LabellingError as error:
            _log.warning("the reference failed in step %d: %s", state.step + 1, error)
        finally:
            worker.close()
        return self._check(Dataset(found[stride::stride]))

    def _compute(self, structure: Structure, record: Record, worker: WorkerProcess) -> Structure:
        known = record.find(structure)
        if known is None:
            known = self._attempt(structure, worker)
            record.append(known)
        if known.forces is None:
            raise ConfigError(
                f"reference.calculator = '{self._options.calculator}': gives no forces; choose one that does"
            )
        return known

    def _attempt(self, structure: Structure, worker: WorkerProcess) -> Structure:
        for _ in range(self._options.retries):
            with contextlib.suppress(LabellingError):
                return worker.label(structure)
        return worker.label(structure)

    @property
    def calls(self) -> int:
        """Structures computed so far, those of simulations included."""
        files = [self._folder / LABELS, self._folder / CALLS]
        return sum(len(structures(file)) for file in files if file.exists())
