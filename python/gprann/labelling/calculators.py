"""ASE calculators by name: plain data that a worker process makes a calculator of."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ase
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError, get_calculator_class
from ase.calculators.names import names

from gprann.errors import ConfigError, nearest_name

_ELSEWHERE = {"tblite": "tblite.ase:TBLite"}
_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_EXTRAS = {"tblite": "pip install 'gprann[xtb]'"}


@dataclass(frozen=True, slots=True)
class CalculatorSpec:
    """A calculator to be made: a name and keyword options.

    Attributes
    ----------
    name : str
        Name of a calculator of ASE (`emt`, `vasp`, `espresso`, ...), `tblite` for GFN-xTB, or `module:Class` for
        anything that can be imported and called, such as `gprann.calculator:Calculator`.
    options : mapping
        Keyword arguments: plain data, as in TOML or JSON.

    Raises
    ------
    ConfigError
        If the name is none, or an option is no plain data.

    Examples
    --------
    >>> CalculatorSpec("ase.calculators.lj:LennardJones", {"sigma": 1.1}).build().parameters["sigma"]
    1.1
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ConfigError(
                f"calculator: expected a name such as 'emt' or 'module:Class', got a {type(self.name).__name__}: "
                "worker processes make calculators of their own"
            )
        if not (_DOTTED.fullmatch(self.name) or re.fullmatch(r"[A-Za-z_]\w*", self.name)):
            raise ConfigError(
                f"calculator = '{self.name}': expected a name such as emt or vasp, or 'module:Class'"
            )
        try:
            json.dumps(dict(self.options))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"options of the calculator: expected numbers, texts, lists and tables ({error}); "
                "write a function that makes the calculator, and name it 'module:function'"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return name and options as plain data."""
        document: dict[str, Any] = json.loads(
            json.dumps({"calculator": self.name, "options": dict(self.options)}, sort_keys=True)
        )
        return document

    def build(self) -> BaseCalculator:
        """Make the calculator.

        Raises
        ------
        ConfigError
            If it cannot be found, imported or made.
        """
        factory = self._factory()
        try:
            calculator: BaseCalculator = factory(**self.options)
        # Whatever a calculator thinks of its options or of its installation.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"calculator '{self.name}' cannot be made ({reason}); check its options"
            ) from error
        if not hasattr(calculator, "get_property"):
            raise ConfigError(
                f"calculator '{self.name}' gives a {type(calculator).__name__}, no ASE calculator"
            )
        return calculator

    def _factory(self) -> Any:
        dotted = _ELSEWHERE.get(self.name, self.name)
        try:
            if ":" not in dotted:
                return get_calculator_class(dotted)
            module, _, path = dotted.partition(":")
            if module.partition(".")[0] in sys.stdlib_module_names:  # os:system and the like
                raise ConfigError(
                    f"calculator '{self.name}' is a part of Python itself, which makes no calculator; expected "
                    "'module:Class' of a package with calculators, or of a module of your own"
                )
            found: Any = importlib.import_module(module)
            for attribute in path.split("."):
                found = getattr(found, attribute)
        except (ImportError, AttributeError) as error:
            remedy = _EXTRAS.get(self.name) or (
                "install it, or put its folder on PYTHONPATH"
                if ":" in dotted
                else nearest_name(self.name, [*names, *_ELSEWHERE]) + " Or give 'module:Class'"
            )
            raise ConfigError(f"calculator '{self.name}' is not found ({error}); {remedy}") from error
        if not callable(found):
            raise ConfigError(
                f"calculator '{self.name}' is a {type(found).__name__}, which makes no calculator"
            )
        return found


def force_consistent_energy(calculator: BaseCalculator, atoms: ase.Atoms) -> float:
    """Return the energy that the forces are derivatives of, eV: the free energy where the calculator has one."""
    energy = calculator.get_property("energy", atoms)
    if "free_energy" in calculator.implemented_properties:
        with contextlib.suppress(PropertyNotImplementedError):
            free = calculator.get_property("free_energy", atoms, allow_calculation=False)
            energy = energy if free is None else free
    return float(energy)
