"""Options of molecular dynamics."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from gprann.data.moving import SKIN
from gprann.errors import ConfigError, refuse_unused
from gprann.options import Options, option

_BELONGS = {
    "friction": ("langevin",),
    "coupling_time": ("bussi", "npt"),
    "pressure": ("npt",),
    "pressure_time": ("npt",),
    "compressibility": ("npt",),
    "final_temperature": ("langevin", "bussi", "npt"),
    "false_alarm": ("langevin", "bussi", "npt"),
    "settling": ("langevin", "bussi", "npt"),
}
"""Options that some ensembles alone use."""
_MAY_CHANGE = frozenset(
    {
        "length",
        "checkpoint_every",
        "skin",
        "max_temperature",
        "max_deviation",
        "max_grade",
        "false_alarm",
        "settling",
        "min_distance",
        "max_distance",
        "max_stretch",
        "min_contact",
    }
)


class MdOptions(Options):
    """Options of molecular dynamics."""

    ensemble: Literal["nve", "langevin", "bussi", "npt"] = option(
        'What is kept constant: "nve" the energy; "langevin" the temperature, by friction and noise at every atom; '
        '"bussi" the temperature, by stochastic rescaling of all velocities, which disturbs their correlations least; '
        '"npt" temperature and pressure, by stochastic rescaling of velocities and cell.',
        "langevin",
    )
    length: float = option("Length of the run.", 10.0, unit="ps", gt=0)
    time_step: float = option(
        "Time step; 0.5 with hydrogen, up to 2 without light atoms.", 0.5, unit="fs", gt=0
    )
    temperature: float = option("Temperature, and that of the first velocities.", 300.0, unit="K", gt=0)
    final_temperature: float | None = option(
        "Temperature at the end of the run, to which it changes evenly. Default: it stays.",
        None,
        unit="K",
        example=600.0,
        gt=0,
    )
    start: Literal["thermal", "file"] = option(
        'Velocities at the beginning: "thermal" drawn for the temperature; "file" the momenta of the structure file.',
        "thermal",
    )
    seed: int = option("Seed of velocities, noise and rescaling.", 0, ge=0)
    friction: float = option("With ensemble langevin: friction.", 10.0, unit="1/ps", gt=0)
    coupling_time: float = option(
        "With ensemble bussi or npt: time in which the temperature relaxes.", 100.0, unit="fs", gt=0
    )
    pressure: float = option("With ensemble npt: pressure.", 0.0, unit="GPa")
    pressure_time: float = option(
        "With ensemble npt: time in which the pressure relaxes.", 1000.0, unit="fs", gt=0
    )
    compressibility: float = option(
        "With ensemble npt: estimate of the isothermal compressibility, which scales `pressure_time` and nothing else "
        "(water 0.46, lithium 0.09, oxides 0.005).",
        0.1,
        unit="1/GPa",
        gt=0,
    )
    log_every: int = option("Steps from one line of the log to the next.", 20, ge=1)
    trajectory_every: int = option("Steps from one frame of the trajectory to the next.", 100, ge=1)
    checkpoint_every: int = option(
        "Most steps from one checkpoint to the next; there is one every minute as well.", 1000, ge=1
    )
    skin: float = option(
        "Of the neighbour lists of potentials, which are kept until an atom has moved by half of it; it changes the "
        "speed, not the results.",
        SKIN,
        unit="Å",
        ge=0,
    )
    max_temperature: float | None = option(
        "The run stops above this temperature. Default: five times the temperature, at least 1000, and 1 + 10/f times "
        "that with f degrees of freedom, so that few atoms may fluctuate.",
        None,
        unit="K",
        example=1500.0,
        gt=0,
    )
    false_alarm: float | None = option(
        "The run stops where the temperature of a step is one that a correct potential would reach in one step with "
        "this probability: outside quantiles of the canonical ensemble (chi-square) for the degrees of freedom. "
        "Default: it is not looked at.",
        None,
        example=1e-10,
        gt=0,
        lt=0.1,
    )
    settling: float | None = option(
        "With false_alarm: time at the beginning in which it is not looked at, since a structure that is relaxed, or "
        "of another temperature, needs it to share its energy. Default: five times that of the thermostat.",
        None,
        unit="ps",
        example=0.5,
        ge=0,
    )
    max_grade: float | None = option(
        "The run stops where the extrapolation grade of an atom exceeds this; 1 is the edge of the training set. "
        "Default: it never does.",
        None,
        example=3.0,
        gt=0,
    )
    max_deviation: float | None = option(
        "The run stops where the standard deviation of the force on an atom (length of the vector of the standard "
        "deviations of its components) exceeds this: needs a committee, where every step is looked at, or a surrogate, "
        "where every line of the log is. Default: it never does.",
        None,
        unit="eV/Å",
        example=0.5,
        gt=0,
    )
    min_distance: float = option("The run stops where two atoms come closer than this.", 0.5, unit="Å", gt=0)
    max_distance: float = option(
        "The run stops where an atom has lost all neighbours within this distance.", 6.0, unit="Å", gt=0
    )
    min_contact: float | None = option(
        "The run stops where two atoms are closer than this times the sum of their covalent radii. Default: "
        "`min_distance` alone counts.",
        None,
        example=0.65,
        gt=0,
        lt=1,
    )
    max_stretch: float | None = option(
        "The run stops where a bond between non-metals (nearer than 1.25 times the sum of their covalent radii at the "
        "start) has become longer than this times that sum: a molecule has come apart. Default: it is not looked at.",
        None,
        example=1.8,
        gt=1.25,
    )
    keep: int = option(
        "Frames of the last lines of the log that are written for labelling when the run stops early.",
        10,
        ge=1,
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        unused = {
            name: f"it belongs to the ensemble {' or '.join(map(repr, _BELONGS[name]))}, not to '{self.ensemble}'"
            for name in self.changes()
            if self.ensemble not in _BELONGS.get(name, (self.ensemble,))
        }
        if self.settling is not None and self.false_alarm is None:
            unused["settling"] = "it belongs to false_alarm, which is not set"
        refuse_unused(unused, self)
        if self.steps < 1:
            raise ConfigError(
                f"length = {self.length}: expected at least one time step ({self.time_step} fs)"
            )
        if self.max_distance <= self.min_distance:
            raise ConfigError(f"max_distance = {self.max_distance}: expected more than min_distance")
        return self

    @property
    def settled(self) -> float:
        """Step from which on the temperature has to be canonical."""
        if self.false_alarm is None:
            return float("inf")
        thermostat = 1.0 / self.friction if self.ensemble == "langevin" else 1e-3 * self.coupling_time
        return 1000.0 * (5.0 * thermostat if self.settling is None else self.settling) / self.time_step

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return round(1000.0 * self.length / self.time_step)

    def highest_temperature(self, degrees: int) -> float:
        """Return the temperature above which the run stops, K, of so many degrees of freedom."""
        if self.max_temperature is not None:
            return self.max_temperature
        return max(1000.0, 5.0 * max(self.temperature, self.final_temperature or 0.0)) * (
            1.0 + 10.0 / degrees
        )

    def temperature_at(self, step: int) -> float:
        """Return the temperature of the thermostat in a step, K."""
        if self.final_temperature is None:
            return self.temperature
        return self.temperature + (self.final_temperature - self.temperature) * step / self.steps

    def check_resumed(self, before: MdOptions) -> None:
        """Refuse to go on with a run whose past would have been another one with these options.

        Raises
        ------
        ConfigError
            Naming the first of them.
        """
        fixed = set(type(self).model_fields) - _MAY_CHANGE
        if self.final_temperature is not None:
            fixed.add("length")
        for name in type(self).model_fields:
            old, new = getattr(before, name), getattr(self, name)
            if name in fixed and old != new:
                raise ConfigError(
                    f"{name} = {new}: the run in this folder was begun with {old}; give another folder or this value"
                )
