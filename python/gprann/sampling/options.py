"""Options of an exploration: where it starts, who labels, how potentials are tried, and when it has converged."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from gprann.dynamics.options import MdOptions
from gprann.errors import ConfigError, refuse_unused
from gprann.labelling import LabelOptions
from gprann.options import Names, Options, option


class StartOptions(Options):
    """Structures in which an exploration begins, and labels if there are some."""

    structures: Names = option(
        "Structures in which simulations begin, in turn: a file, folder or glob pattern, or a list of these. Labels "
        "that they have are not used. Relative paths start at the folder of this file.",
        example="start.extxyz",
    )
    labels: Names | None = option(
        "Structures with energies and forces of the reference, to which the first potential is fitted. Default: they "
        "are made, see `method`.",
        None,
        example="labels.extxyz",
    )
    method: Literal["rattle", "reference_md"] = option(
        'Without labels: "rattle" labels randomly displaced copies of the structures, "reference_md" frames of a short '
        "simulation with the reference itself, for which every step is computed.",
        "rattle",
    )
    count: int = option("Without labels: first structures that are labelled.", 20, ge=2)
    displacement: float = option(
        "With method rattle: standard deviation of the displacement of a coordinate.", 0.05, unit="Å", gt=0
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = ("method", "count", "displacement")
        unused = dict.fromkeys(names, "labels are given") if self.labels is not None else {}
        if self.labels is None and self.method != "rattle":
            unused = {"displacement": "it belongs to method = 'rattle'"}
        refuse_unused({name: unused[name] for name in self.changes() if name in unused}, self)
        return self


class ReferenceOptions(LabelOptions):
    """The calculator that labels are computed with; it runs in processes of its own, as with `gprann label`."""

    calculator: str = option(
        "Name of a calculator of ASE (emt, vasp, espresso, ...), tblite for GFN-xTB, or 'module:Class'.",
        example="emt",
        min_length=1,
    )
    options: dict[str, Any] | None = option(
        "Keyword arguments of the calculator; paths must be absolute.",
        None,
        example={"method": "GFN2-xTB"},
    )
    max_force: float = option(
        "Labels with a larger force on an atom are refused: the structure has blown up.",
        30.0,
        unit="eV/Å",
        gt=0,
    )


class ReplicaOptions(MdOptions):
    """Simulations in which each potential is tried: replicas with seeds and velocities of their own."""

    replicas: int = option("Simulations of each generation, all of which have to survive.", 3, ge=1)
    patience: float = option(
        "Once a replica has failed, and a new potential will be fitted anyway, those after it run to so many times its "
        "length at most, and to 1 ps at least.",
        4.0,
        ge=1,
    )
    relax: bool = option("Relax the structures with the potential before the simulations.", False)
    false_alarm: float | None = option(
        "A replica has failed at the first step whose temperature a correct potential would reach in one step with "
        "this probability: outside quantiles of the canonical ensemble (chi-square) for the degrees of freedom.",
        1e-10,
        gt=0,
        lt=0.1,
    )
    min_contact: float | None = option(
        "A replica has failed where two atoms are closer than this times the sum of their covalent radii; frames like "
        "this are not labelled.",
        0.65,
        gt=0,
        lt=1,
    )
    max_stretch: float | None = option(
        "A replica has failed where a bond between non-metals (atoms nearer than 1.25 times the sum of their covalent "
        "radii at the start) has become longer than this times that sum. Where molecules are to react: a large number.",
        1.8,
        gt=1.25,
    )
    trajectory_every: int = option(
        "Steps from one frame to the next, among which structures to label are chosen.", 10, ge=1
    )
    seed: int = option("Seed of the replicas, and of all that is drawn at random.", 0, ge=0)

    @model_validator(mode="after")
    def _check_ensemble(self) -> Self:
        if self.ensemble == "nve":
            raise ConfigError(
                "ensemble = 'nve': has no temperature that could tell a failure; choose langevin, bussi or npt"
            )
        return self

    def of_replica(self, seed: int) -> MdOptions:
        """Return the options of one simulation."""
        return MdOptions.part_of(self).replace(seed=seed)


class ChoiceOptions(Options):
    """Rule by which structures of failed simulations are chosen."""

    rule: Literal["informative", "frames", "random", "reference_md"] = option(
        'How structures are chosen from before the failure: "informative" those that lower the variance of the '
        'potential along the failed simulations most; "frames" the last ones, evenly; "random" any; "reference_md" '
        "frames of short simulations with the reference from the last calm frame, every step of which is computed.",
        "informative",
    )
    count: int = option("Structures that are labelled in a generation.", 10, ge=1)
    candidates: int = option(
        "With rule informative: most frames of the simulations that are considered.", 300, ge=10
    )
    stretch: float = option(
        "With rule frames: time before the failure from which they come.", 0.2, unit="ps", gt=0
    )
    stride: int = option(
        "With rule reference_md: steps from one structure that is kept to the next.", 10, ge=1
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        owners = {"candidates": "informative", "stretch": "frames", "stride": "reference_md"}
        unused = {
            name: f"it belongs to rule = '{owners[name]}'"
            for name in self.changes()
            if owners.get(name, self.rule) != self.rule
        }
        refuse_unused(unused, self)
        return self


class ConvergenceOptions(Options):
    """When an exploration ends: all replicas survive, and the force error on structures held out is small."""

    force_error: float = option(
        "Mean absolute error of force components on structures that are held out, below which the potential is good "
        "enough.",
        0.08,
        unit="eV/Å",
        gt=0,
    )
    test: Names | None = option(
        "Structures that are held out, with energies and forces of the reference. Default: a part of the labels, see "
        "`share`, or new ones.",
        None,
        example="test.extxyz",
    )
    share: float = option(
        "Without test: part of the labels that is set aside and never fitted. With 0 frames of the simulations that "
        "survive are labelled, predicted, and fitted only if the potential is not good enough.",
        0.0,
        ge=0,
        le=0.5,
    )
    check: int = option(
        "Without test and share: frames of surviving simulations that are labelled as a test.", 10, ge=1
    )
    generations: int = option("Potentials at most.", 40, ge=1)
    max_labels: int | None = option(
        "Labels at most, those at the start included; no generation is begun with more. Default: any number.",
        None,
        example=500,
        ge=2,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        unused = {}
        if self.test is not None:
            unused = dict.fromkeys(("share", "check"), "structures for the test are given")
        elif self.share > 0:
            unused = {"check": "a share of the labels is set aside"}
        refuse_unused({name: unused[name] for name in self.changes() if name in unused}, self)
        return self
