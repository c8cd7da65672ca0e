"""Options of `gprann.measure_properties`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, model_validator

from gprann.errors import ConfigError, nearest_name
from gprann.options import Options, option

NAMES = (
    "relaxation",
    "equation_of_state",
    "elastic_constants",
    "phonons",
    "thermal_conductivity",
    "vibrations",
    "vacancy",
    "surfaces",
    "dynamics",
    "rdf",
    "diffusion",
)
"""Of the properties, in the order in which they are computed."""


def _sequence(value: object) -> object:
    """Take lists and single values for tuples."""
    return tuple(value) if isinstance(value, list) else value if isinstance(value, tuple) else (value,)


Texts = Annotated[tuple[str, ...], BeforeValidator(_sequence)]
Temperatures = Annotated[tuple[float, ...], BeforeValidator(_sequence)]


class PropertyOptions(Options):
    """Options of the properties."""

    only: Texts | None = option(
        f"Properties that are computed, of {', '.join(NAMES)}. Default: all that the structure has.",
        None,
        example=["relaxation", "elastic_constants"],
    )
    length: float = option(
        "Least length of supercells in each direction, for phonons, defects and dynamics.",
        10.0,
        unit="Å",
        gt=0,
    )
    temperatures: Temperatures = option(
        "Of dynamics and of the thermal conductivity; from several an activation energy of diffusion follows.",
        (300.0,),
        unit="K",
        min_length=1,
    )
    time: float = option(
        "Length of the dynamics at each temperature, of which the first fifth is left out.",
        10.0,
        unit="ps",
        gt=0,
    )
    time_step: float = option("Time step of the dynamics.", 0.5, unit="fs", gt=0)
    charges: dict[str, float] | None = option(
        "Charges of ions, for the ionic conductivity. Default: there is none.",
        None,
        unit="e",
        example={"Li": 1.0},
    )
    mesh: int = option(
        "Points in each direction in the sums over phonons of the thermal conductivity.", 11, ge=1
    )
    most_displacements: int = option(
        "The thermal conductivity is left out if it needs more displaced supercells than this.", 1000, ge=1
    )
    miller: Texts = option(
        'Indices of the surfaces, of the cell that is given: "100", or "1,0,-1".',
        ("100", "110", "111"),
        min_length=1,
    )
    seed: int = option("Of the velocities.", 0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> PropertyOptions:
        for name in self.only or ():
            if name not in NAMES:
                raise ConfigError(f"only: '{name}' is no property; {nearest_name(name, NAMES)}")
        for temperature in self.temperatures:
            if not temperature > 0:
                raise ConfigError(f"temperatures = {list(self.temperatures)}: expected positive numbers of K")
        for text in self.miller:
            indices_of(text)
        return self


def indices_of(text: str) -> tuple[int, int, int]:
    """Return the Miller indices that a text stands for.

    Raises
    ------
    ConfigError
        If it is none.

    Examples
    --------
    >>> indices_of("110"), indices_of("1,0,-1")
    ((1, 1, 0), (1, 0, -1))
    """
    parts = text.split(",") if "," in text else list(text)
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not any(numbers):
        raise ConfigError(f"miller = '{text}': expected three indices as 110, or 1,0,-1")
    return (numbers[0], numbers[1], numbers[2])
