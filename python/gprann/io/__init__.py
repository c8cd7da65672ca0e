"""Structures in and out: extended XYZ, ænet XSF, and every format that ASE reads."""

from gprann.io.checks import DataReport, DataWarning, check_dataset
from gprann.io.reading import read
from gprann.io.writing import write
from gprann.runtime.atomic_write import WriteError, atomic_write

__all__ = ["DataReport", "DataWarning", "WriteError", "atomic_write", "check_dataset", "read", "write"]
