"""Methods of training: their names, and the rows of a table that compares their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gprann.evaluation.metrics import number


class Method(NamedTuple):
    """A method of training.

    Attributes
    ----------
    title : str
    colour : str
        In all figures.
    """

    title: str
    colour: str


METHODS = {
    "energies": Method("energies only", "#d1622b"),
    "taylor": Method("Taylor-ANN", "#8e5aa8"),
    "gpr": Method("GPR-ANN", "#2b6ca3"),
    "direct": Method("direct forces", "#3b8f5a"),
}
"""The methods that Yeu et al., npj Comput. Mater. 11, 156 (2025), compare, in their order."""


class Column(NamedTuple):
    """One column of a table of methods.

    Attributes
    ----------
    heads : tuple of str
        Lines above the column.
    name : str
        Of the metric.
    factor : float
        From the unit of the metric to the unit that is shown.
    """

    heads: tuple[str, ...]
    name: str
    factor: float = 1.0


def headings(columns: Sequence[Column]) -> list[list[str]]:
    """Return the header lines of a table, with an empty first cell above the names.

    Examples
    --------
    >>> headings([Column(("energy MAE", "meV"), "energy_mae", 1000.0)])
    [['', 'energy MAE'], ['', 'meV']]
    """
    return [["", *line] for line in zip(*(column.heads for column in columns), strict=True)]


def cells(metrics: Mapping[str, Any], columns: Sequence[Column]) -> list[str]:
    """Return the values of the columns as text: integers in full, other numbers with three significant digits.

    Examples
    --------
    >>> cells({"energy_mae": 0.0021}, [Column(("meV",), "energy_mae", 1000.0)])
    ['2.10']
    """
    values = [metrics[column.name] for column in columns]
    return [
        str(value) if isinstance(value, int) else number(value, column.factor)
        for value, column in zip(values, columns, strict=True)
    ]


def markdown(rows: Sequence[Sequence[str]], *, headers: int) -> str:
    """Return the rows as a Markdown table; header lines are joined, because Markdown has only one.

    Examples
    --------
    >>> print(markdown([["", "energy"], ["", "meV"], ["GPR-ANN", "2.1"]], headers=2))
    |  | energy meV |
    |---|---:|
    | GPR-ANN | 2.1 |
    """
    head = [" ".join(part for part in lines if part) for lines in zip(*rows[:headers], strict=True)]
    rule = "|".join(["---", *["---:"] * (len(head) - 1)])
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows[headers:])]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])
