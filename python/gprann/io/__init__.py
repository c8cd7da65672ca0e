"""Structures in and out: extended XYZ, ænet XSF, and every format that ASE reads."""

from gprann.io.atomic import WriteError, atomic_write
from gprann.io.checks import DataReport, DataWarning, check_dataset
from gprann.io.reading import read
from gprann.io.writing import write

__all__ = ["DataReport", "DataWarning", "WriteError", "atomic_write", "check_dataset", "read", "write"]
