"""Options of a surrogate: those of kernel and solver stand beside the names of these."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gprann.options import Options, option
from gprann.surrogate.hyperparameters.criteria import Fixed
from gprann.surrogate.hyperparameters.kernel_selection import AutoKernel  # noqa: F401 - registers all kernels
from gprann.surrogate.hyperparameters.search import Grid, GridTable, HyperparameterSearch, SearchName
from gprann.surrogate.kernels.base import Fingerprint, Kernel
from gprann.surrogate.solvers.base import Solver
from gprann.surrogate.solvers.plan import AutoSolver  # noqa: F401 - registers all solvers


class SurrogateOptions(Options):
    """Gaussian-process surrogate: learns energies and forces, and labels the copies."""

    kernel: Kernel = option(
        'Kernel: "atoms" sums over the environments of the atoms (the most accurate, for any system), "pairs" uses '
        'inverse distances in a fixed order of atoms, "cartesian" the coordinates, "soap" SOAP vectors (needs '
        'dscribe); "auto" chooses by structures that are held out, among soap too if its settings are given.',
        "atoms",
    )
    length: float | None = option(
        "Kernel length in units of the spread of the fingerprints. Default: from the training structures.",
        None,
        gt=0,
        example=8.0,
    )
    energy_noise: float | None = option(
        "Noise variance of the energies relative to the mean variance of the gradients under the kernel, with energies "
        "in eV and lengths in Å; the log gives the standard deviation in eV. Four times the variance gives about "
        "twice the standard deviation. Default: from the training structures.",
        None,
        gt=0,
        example=1e-8,
    )
    force_noise: float | None = option("The same for the forces, in eV/Å.", None, gt=0, example=1e-8)
    hyperparameters: SearchName = option(
        "How length and noises are found where they are not given: by the errors of structures held out (the most "
        "accurate), or on random subsets alone by the likelihood, by structures held out one by one or by fifths, or "
        "on a grid.",
        "held_out",
    )
    grid: GridTable | None = option(
        'For hyperparameters = "grid": lists of values, all combinations of which are tried. Defaults: five lengths '
        "from 2 to 32, four noises from 1e-10 to 1e-4.",
        None,
        example={"length": [4.0, 8.0], "energy_noise": [1e-8], "force_noise": [1e-8, 1e-6]},
    )
    stress: bool = option(
        "Atoms kernel: whether it learns from the stresses of the structures that have one too. Only for stresses that "
        "are derivatives of the energies: with plane waves, those of large cutoffs.",
        False,
    )
    solver: Solver = option(
        'How the weights are found: "cholesky" by the covariance matrix of all energies and forces, "sparse" of '
        'representative environments of atoms, "conjugate_gradient" without the matrix, "inducing" by its columns of '
        'representative structures; "auto" by the size of the training set and the memory.',
        "auto",
    )
    bound: Annotated[float, Field(gt=0)] | Literal["auto", "off"] | None = option(
        "Standard deviation of an energy at which half of the correction to the baseline is left: it is weighed by "
        '1 / (1 + (std / bound)⁴), so that far from the training set the baseline alone remains. "auto": from the '
        'errors of structures held out; "off": the correction is never weighed. Default: "auto" where the '
        'baseline exerts forces on the training structures, otherwise "off".',
        None,
        unit="eV",
        example=0.05,
    )
    memory: float | None = option(
        "Largest memory of the surrogates that are fitted at a time: decides on the solver, and with little of it "
        "hyperparameters come from smaller subsets. Default: what is available, within resources.memory.",
        None,
        unit="GiB",
        gt=0,
        example=4.0,
    )

    @property
    def fixed(self) -> Fixed:
        """Length, energy noise and force noise as they are given, None for the others."""
        return self.length, self.energy_noise, self.force_noise

    def search(self, fingerprint: Fingerprint, seed: int, budget: float) -> HyperparameterSearch:
        """Return the search for those that are not given, with a fitted fingerprint and a memory in GiB."""
        grid = Grid.from_dict(self.grid or {})
        return HyperparameterSearch(fingerprint, self.fixed, self.hyperparameters, seed, budget, grid)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stress and not self.kernel.strains:
            raise ValueError(
                f"stress: only the kernel 'atoms' observes stresses, not '{self.kernel.name or type(self.kernel)}'"
            )
        if self.hyperparameters != "held_out" and None not in self.fixed:
            raise ValueError(
                f"hyperparameters = '{self.hyperparameters}': has no effect, all are given; leave it out"
            )
        if self.grid is None:
            return self
        if self.hyperparameters != "grid":
            raise ValueError(f"grid belongs to hyperparameters = 'grid', not to '{self.hyperparameters}'")
        for name in self.grid:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"grid: {name} is given already, as {getattr(self, name)}; leave one of both out"
                )
        return self
