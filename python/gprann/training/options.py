"""Options of training, and the automatic choice of the optimiser."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from gprann.baselines import Baseline, ReferenceEnergies, as_baseline, terms_of
from gprann.errors import ConfigError
from gprann.models.base import Model
from gprann.models.network import Mlp
from gprann.options import Options, Widths, option
from gprann.training.optimizers import (
    AdamW,
    GaussNewtonCG,
    LevenbergMarquardt,
    Optimizer,
    OptimizerState,
    Workload,
    register_optimizer,
)

if TYPE_CHECKING:
    from gprann.training.objective import Objective

_log = logging.getLogger(__name__)
_DENSE = 5000  # parameters up to which the normal equations are set up and solved
_ROW_FLOPS = 1e11  # of a step among the residuals, where there are fewer of them
_WHOLE = 20000  # structures up to which an optimiser sweeps over all of them for every step
USUAL_ALPHA = 0.98
Weight = Annotated[float, Field(ge=0)]


@register_optimizer
class Auto(LevenbergMarquardt):
    """The optimiser that the numbers of parameters and structures suggest.

    Examples
    --------
    >>> optimizer, reason = Auto().resolve(Workload(n_parameters=800, n_structures=100))
    >>> optimizer.name, reason
    ('lm', '800 parameters: their normal equations are cheap, and converge fastest')
    """

    name = "auto"

    def resolve(self, workload: Workload) -> tuple[Optimizer, str]:
        """Return the optimiser with all defaults in place, and the reason for its choice."""
        parameters, structures = workload.n_parameters, workload.n_structures
        kind: type[Optimizer]
        if parameters <= _DENSE:
            kind = LevenbergMarquardt
            reason = f"{parameters} parameters: their normal equations are cheap, and converge fastest"
        elif workload.fewer_rows and workload.n_rows**2 * parameters <= _ROW_FLOPS:
            kind = LevenbergMarquardt
            reason = (
                f"{parameters} parameters, but only {workload.n_rows} energies and forces: equations among these are "
                "cheap, and converge fastest"
            )
        elif structures <= _WHOLE:
            kind = GaussNewtonCG
            reason = (
                f"{parameters} parameters: too many for normal equations (up to {_DENSE}); the same steps by "
                "conjugate gradients"
            )
        else:
            kind = AdamW
            reason = f"{parameters} parameters and {structures} structures: too many to sweep for each step"
        given = self.changes()
        unused = [name for name in given if name not in kind.model_fields]
        if unused:
            _log.warning(
                "%s: no option of the optimizer '%s', which was chosen", ", ".join(unused), kind.name
            )
        kept = {name: value for name, value in given.items() if name not in unused}
        return kind(**kept).suited_to(workload), reason

    def minimise(
        self, train: Objective, validation: Objective, state: OptimizerState, **context: Any
    ) -> OptimizerState:
        """Minimise with the optimiser that suits the objective."""
        workload = Workload(n_parameters=train.n_parameters, n_structures=train.size)
        return self.resolve(workload)[0].minimise(train, validation, state, **context)


class RankOptions(Options):
    """How one training is divided among processes."""

    mpi: bool = option(
        "Divide the structures of each training among the ranks that mpiexec has started, for one large potential: "
        "mpiexec -n 4 gprann run config.toml. The result is that of one process up to rounding. Needs mpi4py.",
        False,
    )


class TrainingOptions(Options):
    """How a potential is trained on energies, or on energies and forces."""

    model: Model = option(
        'Model of the atomic energies: "mlp", a network for each element; "linear" or "quadratic" in the components of '
        "the descriptor, fitted in closed form.",
        Mlp.name,
    )
    optimizer: Optimizer = option(
        'Optimiser: "lm" (Levenberg-Marquardt), "gauss_newton_cg" (the same without a matrix), "lbfgs", "adamw", or '
        '"auto": by the numbers of parameters and structures.',
        "auto",
    )
    members: int = option(
        "Networks of the committee, which differ by seed; 10 give a standard deviation with every prediction.",
        1,
        ge=1,
    )
    seed: int = option("Seed of the starts and of the held-out structures.", 0, ge=0)
    forces: bool = option(
        "Fit forces too, of the structures that have them: (1 - alpha) L_E + alpha L_F, the mean squared errors of "
        "energies and force components (Yeu et al., eq. 5). Needs no copies (augmentation "
        'method "none").',
        False,
    )
    alpha: float | None = option(
        f"Share of the forces in the loss. Default: {USUAL_ALPHA:g}, or the share that suits the data better by what "
        "linear models make of structures that are held out; the log says which and why.",
        None,
        ge=0,
        le=1,
        example=USUAL_ALPHA,
    )
    force_fraction: float = option(
        "Part of the force components that counts, drawn anew for every iteration.", 1.0, gt=0, le=1
    )
    stress: float = option(
        "Factor of the mean squared error of the virials (stress times volume, eV) in the loss; 0: none.",
        0.0,
        ge=0,
    )
    huber_energy: float | None = option(
        "Energy errors beyond this value count linearly, so that outliers do not decide. Default: all are squared.",
        None,
        unit="eV",
        example=0.1,
        gt=0,
    )
    huber_force: float | None = option(
        "Errors of force components beyond this value count linearly. Default: all are squared.",
        None,
        unit="eV/Å",
        example=0.5,
        gt=0,
    )
    group_weights: dict[str, Weight] = option("Factors of the weights of the structures of a group.", {})
    species_weights: dict[str, Weight] = option(
        "Factors of the weights of the forces on the atoms of an element.", {}
    )
    per_atom: bool | None = option(
        "Fit errors of energies per atom instead of per structure. Default: per atom if the structures differ in size.",
        None,
        example=True,
    )
    label_noise: float | None = option(
        "Weigh structures whose energy has the variance v by label_noise² / (label_noise² + v), their forces too. "
        "Default: all alike.",
        None,
        unit="eV",
        example=0.005,
        gt=0,
    )
    frozen: Widths = option("Layers, counted from 0 at the descriptor, that stay as they are.", ())
    store: str | None = option(
        "Folder for the features of training sets that are larger than the memory: they are written once, block by "
        "block with checksums, and streamed in every epoch; what is there already is not computed again. For energies "
        "alone. Default: only where the features would exceed the memory, among the checkpoints.",
        None,
        example="features",
        min_length=1,
    )
    validation: float = option(
        "Fraction of the reference structures held out, with all copies made from them, to judge when to stop and "
        "which iteration to keep: a share of every group and composition, pieces of trajectories as a whole. The only "
        "structure of a composition is not held out.",
        0.1,
        ge=0,
        lt=1,
    )
    reference_energies: dict[str, float] | None = option(
        "Energy of each element. Default: of isolated atoms in the data, or by least squares on the compositions.",
        None,
        unit="eV/atom",
        example={"C": -1036.1, "H": -13.7, "O": -2043.2},
    )
    baseline: Baseline | None = option(
        "Contribution to the energy that is known: it is subtracted from the labels and added to the predictions. "
        "Reference energies are part of it in any case.",
        None,
        table=True,
        example="reference_energies",
    )

    @field_validator("baseline", mode="before")
    @classmethod
    def _take_baseline(cls, value: Any) -> Baseline | None:
        return None if value is None else as_baseline(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        of_forces = {
            "stress": self.stress > 0,
            "force_fraction": self.force_fraction < 1,
            "species_weights": bool(self.species_weights),
        }
        for name in [name for name, given in of_forces.items() if given and not self.forces]:
            raise ValueError(f"{name} has no effect without forces; add forces = true")
        self.check_baseline()
        self._check_store()
        return self

    def _check_store(self) -> None:
        if self.store is None:
            return
        if self.forces:
            raise ConfigError(
                "store: keeps the features of energies alone, not the derivatives that forces need; leave store out, "
                "or train on the energies of copies (forces = false)"
            )
        if self.huber_energy is not None:
            raise ConfigError("store: huber_energy needs all structures in memory; leave one of the two out")
        if self.optimizer.needs_products:
            raise ConfigError(
                f"store: the optimizer '{self.optimizer.name}' needs all structures in memory; use \"adamw\" (or "
                '"lbfgs", "lm"), or leave store out'
            )

    def check_baseline(self) -> None:
        """Refuse reference energies beside a baseline that has some."""
        if self.reference_energies is not None and self._reference_terms:
            raise ConfigError("reference_energies: the baseline has some already; give them once")

    @property
    def _reference_terms(self) -> list[ReferenceEnergies]:
        terms = () if self.baseline is None else terms_of(self.baseline)
        return [term for term in terms if isinstance(term, ReferenceEnergies)]

    @property
    def gives_reference_energies(self) -> bool:
        """Whether reference energies are given, not to be fitted."""
        return self.reference_energies is not None or any(term.energies for term in self._reference_terms)

    @property
    def shared(self) -> TrainingOptions:
        """The options that members need: the baseline is subtracted before, and the folder does not matter to them."""
        return self.replace(baseline=None, reference_energies=None, store=None)
