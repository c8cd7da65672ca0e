"""Checked by mypy against the installed package, never run.

Every ignored line is wrong on purpose: where mypy sees no types it finds no error, and calls the comment unused.
"""

from __future__ import annotations

from gprann import _core
from gprann.data.structure import Structure
from gprann.descriptors import ChebyshevDescriptor

compiled: int = _core.Blas()  # type: ignore[assignment]
_core.SquaredExponential("long")  # type: ignore[arg-type]
descriptor = ChebyshevDescriptor(["H"], radial_orders=4)  # type: ignore[call-arg]
size: str = descriptor.size  # type: ignore[assignment]
formula: int = Structure.formula.__doc__  # type: ignore[assignment]
