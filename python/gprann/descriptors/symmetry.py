"""Atom-centred symmetry functions of Behler and Parrinello, by a rule or as n2p2's `input.nn` lists them."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from gprann import _core
from gprann.descriptors.base import CompiledDescriptor, register_descriptor
from gprann.descriptors.n2p2_settings import read_n2p2_settings
from gprann.errors import ConfigError, DataError
from gprann.options import option

CutoffName = Literal["cosine", "tanhu", "tanh", "exp", "poly1", "poly2", "poly3", "poly4"]
_COLUMNS = 9
_RULE = (
    "radial",
    "radial_cutoff",
    "grid",
    "nearest",
    "angular",
    "angular_cutoff",
    "zetas",
    "wide",
)


class SymmetryFunction(NamedTuple):
    """One symmetry function of n2p2.

    Attributes
    ----------
    centre : str
        Element of the central atom.
    kind : int
        n2p2's number: 2 radial, 3 narrow angular, 9 wide angular.
    neighbours : tuple of str
        Element of the neighbour, or of the two.
    eta : float, 1/Å²
    shift : float, Å
        Rs.
    lambda_, zeta : float
        Of angular functions; 0 and 1 for radial ones.
    cutoff : float, Å
    """

    centre: str
    kind: int
    neighbours: tuple[str, ...]
    eta: float
    shift: float
    lambda_: float
    zeta: float
    cutoff: float


def _as_tuple(value: object) -> object:
    plain = value.tolist() if isinstance(value, np.ndarray) else value
    return tuple(plain) if isinstance(plain, list) else plain


def _rows(functions: Any) -> tuple[tuple[float, ...], ...] | None:
    if functions is None:
        return None
    try:
        given = [
            json.loads(row) if isinstance(row, str) else row for row in functions
        ]  # texts of a command line
        table = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("functions: expected rows of nine numbers") from error
    if table.ndim != 2 or table.shape[1] != _COLUMNS or not len(table) or not np.isfinite(table).all():
        raise ValueError(f"functions: shape {table.shape}, expected (functions, 9) finite numbers")
    return tuple(tuple(row) for row in table.tolist())


@register_descriptor
class SymmetryFunctionDescriptor(CompiledDescriptor):
    """Symmetry functions of Behler and Parrinello: radial, and angular with or without the third distance.

    The functions are made by a rule from the options below, or given one by one (`functions`, `from_n2p2`). Every
    element has functions of its own; where one has fewer than another, the last components of its atoms are zero.

    Parameters
    ----------
    species : sequence of str
        Elements.
    radial : int
        Number of radial functions for each element of the neighbour; 0 for none.
    radial_cutoff : float, Å
    grid : {"shifted", "centred"}
        Gaussians of equal width about points r_i, or of the widths r_i about the atom.
    nearest : float, Å
        First of the points r_i; the last is the cutoff.
    angular : int
        Number of widths of the angular functions; 0 for none. They are parts of the cutoff, the largest all of it.
    angular_cutoff : float, Å
    zetas : sequence of float
        Exponents of the angular functions, each with λ = -1 and 1.
    wide : bool
        Whether angular functions leave out the distance of the two neighbours (n2p2's type 9 instead of 3).
    cutoff_function : str
        As in n2p2 (`cutoff_type` 1 to 8): cosine, tanhu, tanh, exp, poly1, poly2, poly3, poly4.
    inner_cutoff : float
        Fraction α of the cutoff up to which the cutoff function is 1.
    functions : array_like, shape (n_functions, 9), optional
        Instead of the rule: index of the central element, n2p2's type (2, 3, 9), indices of the elements of the
        neighbours (the second is not read of type 2), η (1/Å²), Rs (Å), λ, ζ, cutoff (Å). Default: those of the rule.

    Raises
    ------
    ConfigError
        If a species is no element or listed twice, an option is impossible, or there are options of the rule beside
        `functions`.

    Notes
    -----
    Behler, Parrinello, Phys. Rev. Lett. 98, 146401 (2007); Behler, J. Chem. Phys. 134, 074106 (2011). Rule: Gastegger
    et al., J. Chem. Phys. 148, 241709 (2018), section II: Rs = r_i and η = 1/(2 Δr²), or Rs = 0 and η = 1/(2 r_i²).

    Examples
    --------
    >>> import gprann
    >>> descriptor = gprann.SymmetryFunctionDescriptor(["O", "H"], radial=6, angular=1, zetas=[1, 4])
    >>> descriptor.size, descriptor.cutoff
    (24, 6.5)
    >>> descriptor.components["H"][0].neighbours
    ('O',)
    """

    name = "symmetry_functions"

    radial: int = option("Number of radial functions for each element of the neighbour.", 8, ge=0, le=100)
    radial_cutoff: float = option("Cutoff of the radial functions.", 6.5, unit="Å", gt=0)
    grid: Literal["shifted", "centred"] = option(
        'Radial functions: "shifted" Gaussians of equal width, or "centred" on the atom, of different widths.',
        "shifted",
    )
    nearest: float = option("Smallest distance, or width, of the radial functions.", 0.8, unit="Å", gt=0)
    angular: int = option("Number of widths of the angular functions; 0 for none.", 2, ge=0, le=20)
    angular_cutoff: float = option("Cutoff of the angular functions.", 5.0, unit="Å", gt=0)
    zetas: Annotated[tuple[float, ...], BeforeValidator(_as_tuple)] = option(
        "Exponents of the angular functions.", (1.0, 4.0)
    )
    wide: bool = option("Whether angular functions leave out the distance of the two neighbours.", False)
    cutoff_function: CutoffName = option("Cutoff function, as in n2p2.", "cosine")
    inner_cutoff: float = option(
        "Fraction of the cutoff up to which the cutoff function is 1.", 0.0, ge=0, lt=1
    )
    functions: Annotated[Any, BeforeValidator(_rows)] = Field(
        None,
        description="Functions one by one instead of a rule: rows of central element, type (2, 3, 9), elements of "
        "the neighbours (indices of the species), eta, Rs, lambda, zeta, cutoff.",
        repr=False,
        json_schema_extra={
            "unit": "",
            "example": [[0, 2, 0, 0, 0.5, 0.0, 0.0, 1.0, 6.0]],
            "none": "",
            "table": False,
        },
    )

    @model_validator(mode="after")
    def _complete_functions(self) -> Self:
        if self.inner_cutoff and self.cutoff_function in {"tanhu", "tanh"}:
            raise ValueError(
                f"inner_cutoff = {self.inner_cutoff}: the cutoff function {self.cutoff_function} has none; leave it "
                "out or choose cosine, exp or poly1 to poly4"
            )
        if self.functions is None:
            object.__setattr__(self, "functions", self._rule())
        else:
            self._refuse_rule()
        try:
            _ = self.core
        except ValueError as error:
            raise ValueError(f"functions: {error}") from None
        return self

    def _refuse_rule(self) -> None:
        fields = type(self).model_fields
        changed = [name for name in _RULE if getattr(self, name) != fields[name].default]
        if changed and self.functions != self._rule():
            raise ValueError(
                f"{', '.join(changed)}: options of the rule, which `functions` replaces; give one or the other"
            )

    def _rule(self) -> tuple[tuple[float, ...], ...]:
        n = len(self.species)
        rows: list[tuple[float, ...]] = []
        for centre in range(n):
            for first in range(n):
                rows += [
                    (centre, 2, first, first, eta, shift, 0.0, 1.0, self.radial_cutoff)
                    for eta, shift in self._radial_grid()
                ]
            kind = 9 if self.wide else 3
            widths = self.angular_cutoff * np.arange(1, self.angular + 1) / max(self.angular, 1)
            rows += [
                (centre, kind, first, second, 0.5 / width**2, 0.0, sign, zeta, self.angular_cutoff)
                for first in range(n)
                for second in range(first, n)
                for width in widths.tolist()
                for zeta in self.zetas
                for sign in (-1.0, 1.0)
            ]
        if not rows:
            raise ValueError("radial = 0 and no angular functions: at least one function is needed")
        return tuple(tuple(float(x) for x in row) for row in rows)

    def _radial_grid(self) -> list[tuple[float, float]]:
        """Return η and Rs of the radial functions."""
        if self.radial and self.nearest >= self.radial_cutoff:
            raise ValueError(f"nearest = {self.nearest}: expected less than the cutoff {self.radial_cutoff}")
        points = np.linspace(self.nearest, self.radial_cutoff, self.radial + 1)[:-1]  # none at the cutoff
        if self.grid == "centred":
            return [(0.5 / r**2, 0.0) for r in points.tolist()]
        step = (self.radial_cutoff - self.nearest) / max(self.radial, 1)
        return [(0.5 / step**2, r) for r in points.tolist()]

    @classmethod
    def from_n2p2(cls, path: str | os.PathLike[str], *, length_unit: Literal["bohr", "angstrom"]) -> Self:
        """Return the symmetry functions of n2p2's `input.nn`, in the order of the file.

        n2p2 itself sorts them; the sums are the same. Its scaling of the values is not needed here: networks
        standardise their inputs.

        Parameters
        ----------
        path : path-like
        length_unit : {"bohr", "angstrom"}
            Of the file, which does not say.

        Raises
        ------
        DataError
            If the file has functions or keywords that this program does not compute; it names file and line.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import gprann
        >>> lines = "elements H", "cutoff_type 1", "symfunction_short H 2 H 0.5 0.0 12.0"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "input.nn")
        ...     _ = path.write_text("\\n".join(lines))
        ...     descriptor = gprann.SymmetryFunctionDescriptor.from_n2p2(path, length_unit="bohr")
        >>> descriptor.size, round(descriptor.cutoff, 4)
        (1, 6.3501)
        """
        settings = read_n2p2_settings(path, length_unit)
        name = get_args(CutoffName)[settings.cutoff_type - 1]
        inner = 0.0 if name in {"tanhu", "tanh"} else settings.inner_cutoff  # n2p2 does not read it then
        try:
            return cls(settings.elements, functions=settings.rows, cutoff_function=name, inner_cutoff=inner)
        except ConfigError as error:
            raise DataError(f"{os.fspath(path)}: no such descriptor: {error}") from error

    @property
    def components(self) -> dict[str, list[SymmetryFunction]]:
        """The functions of each element in the order of its components; the rest of its row is zero."""
        result: dict[str, list[SymmetryFunction]] = {element: [] for element in self.species}
        for centre, kind, first, second, *numbers in self.functions:
            seen = (first,) if kind == 2 else (first, second)
            element = self.species[int(centre)]
            names = tuple(self.species[int(k)] for k in seen)
            result[element].append(SymmetryFunction(element, int(kind), names, *numbers))
        return result

    @cached_property
    def core(self) -> _core.SymmetryFunctionDescriptor:
        """The compiled descriptor."""
        number = get_args(CutoffName).index(self.cutoff_function) + 1
        return _core.SymmetryFunctionDescriptor(
            len(self.species), np.array(self.functions), number, self.inner_cutoff
        )

    @property
    def costly(self) -> bool:
        """Whether derivatives take longer to compute than to read from memory."""
        return True

    def __repr__(self) -> str:
        counts = ", ".join(f"{element} {len(own)}" for element, own in self.components.items())
        return (
            f"SymmetryFunctionDescriptor({' '.join(self.species)}; {counts} functions; {self.cutoff:.4g} Å)"
        )

    __str__ = __repr__
