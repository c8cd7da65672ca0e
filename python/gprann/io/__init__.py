"""Structures in and out: extended XYZ, ænet XSF, and every format that ASE or dpdata reads."""

from gprann.io.checks import DataReport as DataReport
from gprann.io.checks import DataWarning as DataWarning
from gprann.io.checks import check_dataset as check_dataset
from gprann.io.formats import FileFormat as FileFormat
from gprann.io.formats import register_format as register_format
from gprann.io.labels import ReadOptions as ReadOptions
from gprann.io.reading import read as read
from gprann.io.reading import write as write
from gprann.runtime.atomic_write import WriteError as WriteError
from gprann.runtime.atomic_write import atomic_write as atomic_write
