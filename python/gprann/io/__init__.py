"""Structures in and out: extended XYZ, ænet XSF, and every format that ASE or dpdata reads."""

from gprann.io.checks import DataReport, DataWarning, check_dataset
from gprann.io.formats import FileFormat, register_format
from gprann.io.reading import ReadOptions, read, write
from gprann.runtime.atomic_write import WriteError, atomic_write

__all__ = [
    "DataReport",
    "DataWarning",
    "FileFormat",
    "ReadOptions",
    "WriteError",
    "atomic_write",
    "check_dataset",
    "read",
    "register_format",
    "write",
]
