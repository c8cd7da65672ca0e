"""Header and library of the C interface, by which programs in other languages use potentials."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from gprann.errors import GprannError


@dataclass(frozen=True, slots=True)
class CInterface:
    """Places of header and library for a C compiler.

    Attributes
    ----------
    include : Path
        Folder of `gprann.h`, in which every function is described.
    library : Path
        `libgprann`, which picks the build that suits the processor.
    """

    include: Path
    library: Path

    @property
    def flags(self) -> str:
        """Options of a compiler: where to look for header and library, now and when the program runs."""
        folder = self.library.parent
        return f"-I{self.include} -L{folder} -Wl,-rpath,{folder} -lgprann"


def c_interface() -> CInterface:
    """Return header and library of the C interface.

    Raises
    ------
    GprannError
        If this installation has none: it is for Windows, or was built without.

    Examples
    --------
    >>> import gprann
    >>> (gprann.c_interface().include / "gprann.h").is_file()
    True
    """
    spec = importlib.util.find_spec("gprann._cpu")  # compiled files may lie apart from those in Python
    compiled = Path(__file__).parent if spec is None or spec.origin is None else Path(spec.origin).parent
    for suffix in (".so", ".dylib"):
        library = compiled / f"libgprann{suffix}"
        if library.is_file():
            return CInterface(Path(__file__).parent / "include", library)
    raise GprannError(
        f"{compiled}: this installation has no library of the C interface, which does not exist for Windows; elsewhere "
        "reinstall it with 'pip install --force-reinstall gprann'"
    )
