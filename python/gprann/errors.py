"""Exceptions of gprann. Every message names the argument or the file and structure, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral


class GprannError(Exception):
    """Base class of every error that gprann raises on purpose."""


class DataError(GprannError, ValueError):
    """Input data that cannot be used: names the file, the structure (counted from 0) and the remedy."""


class AtomsTooCloseError(DataError):
    """Two atoms lie on top of each other.

    Parameters
    ----------
    fact : str
        Which atoms, and how near they are.
    remedy : str
    """

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(f"{fact}; {remedy}")
        self.fact = fact

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.fact, str(self)[len(self.fact) + 2 :])


class ExtrapolationError(GprannError, ArithmeticError):
    """A structure outside what the training set has shown, where a calculator was told to stop.

    Parameters
    ----------
    atom : int
        The atom with the largest grade, counted from 0.
    symbol : str
    grade, threshold : float

    Examples
    --------
    >>> import gprann
    >>> error = gprann.ExtrapolationError(3, "H", 4.21, 2.0)
    >>> error.atom, str(error)[:58]
    (3, 'atom 3 (H): its environment has the extrapolation grade 4.')
    """

    def __init__(self, atom: int, symbol: str, grade: float, threshold: float) -> None:
        super().__init__(
            f"atom {atom} ({symbol}): its environment has the extrapolation grade {grade:.3g}, above the threshold "
            f"{threshold:g} (1 is the edge of the training set): the prediction is not to be trusted; label structures "
            "from before this step and train again, or give a larger guard_threshold"
        )
        self.atom, self.symbol, self.grade, self.threshold = atom, symbol, grade, threshold

    def __reduce__(self) -> tuple[type, tuple[int, str, float, float]]:
        return type(self), (self.atom, self.symbol, self.grade, self.threshold)


class FormatError(DataError):
    """A file that is truncated, damaged or not of the format it claims to be."""


class ConfigError(GprannError, ValueError):
    """A configuration file or option with an unknown key or an impossible value."""


class FactorisationError(GprannError, ArithmeticError):
    """A covariance matrix that is not positive definite; `row` is the first row at fault."""

    def __init__(self, message: str, row: int = -1) -> None:
        super().__init__(message)
        self.row = row


class TrainingError(GprannError, ArithmeticError):
    """Training that diverged (NaN or infinite loss); the last good state has been kept."""


class RankError(GprannError, RuntimeError):
    """Another rank of MPI has failed: its own message tells why."""


def nearest_name(name: str, valid: Iterable[str]) -> str:
    """Return a hint `did you mean 'x'?` for a misspelt name, or the list of the valid names.

    Examples
    --------
    >>> nearest_name("atms", ["atoms", "pairs"])
    "did you mean 'atoms'?"
    >>> nearest_name("zzz", ["atoms", "pairs"])
    'valid names: atoms, pairs'
    """
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "valid names: " + ", ".join(names)


def listing(items: Sequence[object], most: int = 5) -> str:
    """Return the first of some items for a message, and how many more there are.

    Examples
    --------
    >>> listing(["H2", "H2O", "CO2"], most=2)
    'H2, H2O, and 1 more'
    """
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def check_whole(least: int, **values: object) -> None:
    """Refuse options that are no whole numbers, or smaller than `least`.

    Raises
    ------
    ConfigError
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
            raise ConfigError(f"{name} = {_spell(value)}: expected {least} or more, a whole number")


def _spell(value: object) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def refuse_unused(
    unused: Mapping[str, str], values: object, spell: Callable[[str], str] = lambda name: name
) -> None:
    """Refuse options that are set and have no effect.

    Parameters
    ----------
    unused : mapping of str to str
        The reason why an option has no effect.
    values : object
        With the options as attributes.
    spell : callable
        How messages name an option.

    Raises
    ------
    ConfigError
        Naming the first of them.
    """
    for name, reason in unused.items():
        value = getattr(values, name)
        raise ConfigError(
            f"{spell(name)} = {getattr(value, 'name', value)}: has no effect, {reason}; leave it out"
        )
