"""Tables of docs/comparison.md, from the numbers in bench/results: results beside those of other programs, ranked.

    python bench/python/comparison.py

writes them between their marks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from public_sets import SETS
from public_table import MODELS, number

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "comparison.md"
PEER = re.compile(
    r"^(?P<program>.+?):? (?P<energy>[\d.]+(?:-[\d.]+)?)(?: \(RMSE [\d.]+\))? / (?P<force>[\d.]+(?:-[\d.]+)?)"
    r"(?: in (?P<time>.+))?$"
)


class Line(NamedTuple):
    """A line of a table: who, errors as they are printed, and the force error by which lines are ranked."""

    program: str
    energy: str
    force: str
    time: str
    rank: float

    def row(self) -> str:
        return f"| {self.program} | {self.energy} | {self.force} | {self.time} |"


def results(name: str) -> dict[str, Any]:
    """Return what was measured."""
    return json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def peers(text: str) -> list[Line]:
    """Return the errors that others report, from `name energy / force, name energy / force in time`."""
    lines = []
    for item in re.split(r"[,;] ", text):
        found = PEER.match(item)
        if found is None:
            raise ValueError(f"not understood: {item!r} of {text!r}")
        first = float(found["force"].split("-")[0])
        lines.append(Line(found["program"], found["energy"], found["force"], found["time"] or "", first))
    return lines


def seconds(value: float) -> str:
    """Return a time as one reads it."""
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def accuracy(*parts: str) -> str:
    """Return the table of parts of public.json on one set, beside the errors of others."""
    public = results("public")
    name, structures, _ = parts[0].split("/")
    one = SETS[name]
    energy = "energy_per_atom_mae" if one.unit == "meV/atom" else "energy_mae"
    lines = peers(one.peers[None if structures == "all" else int(structures)])
    for part in parts:
        found = public[part]
        label = f"**gprann, {MODELS[part.split('/')[2]]}**"
        mae, force = f"**{number(found[energy])}**", f"**{number(found['force_mae'])}**"
        lines.append(Line(label, mae, force, seconds(found["seconds"]), found["force_mae"]))
    head = f"| program | energy, {one.unit} | force, meV/Å | time |\n| --- | --- | --- | --- |"
    return "\n".join([head, *(line.row() for line in sorted(lines, key=lambda line: line.rank))])


def cost() -> str:
    """Return the table of training on forces: time and memory of an epoch against cutoffs."""
    measured = results("fig7")
    others = measured["aenet"]
    lines = [
        "| cutoffs, Å | gprann, s an epoch | ænet-PyTorch, s | gprann, MB added | ænet-PyTorch, MB added |",
        "| --- | --- | --- | --- | --- |",
    ]
    direct = [case for case in measured["cases"] if case["method"] == "direct" and case["batch"] == 32]
    for k, (radial, angular) in enumerate(others["cutoffs"]):
        own = next(case for case in direct if (case["radial"], case["angular"]) == (radial, angular))
        lines.append(
            f"| {radial} / {angular} | **{own['seconds']:.3f}** | {others['seconds'][k]:.3f} "
            f"| **{own['added_MB']:.0f}** | {others['peak_MB'][k] - others['interpreter_MB']:.0f} |"
        )
    return "\n".join(lines)


def complexity() -> str:
    """Return the table of linear, quadratic and network models of silicon on one descriptor."""
    silicon = results("linear")["silicon"]
    lines = ["| model | force RMSE, meV/Å | processor time, s |", "| --- | --- | --- |"]
    for name, title in (("linear", "linear"), ("quadratic", "quadratic"), ("network_10_10", "network 10-10")):
        found = silicon[name]
        lines.append(f"| {title} | {found['force_rmse']:.0f} | {number(found['cpu_seconds'])} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "ethanol 50": lambda: accuracy("rmd17_ethanol/50/surrogate", "rmd17_ethanol/50/distilled"),
    "ethanol 1000": lambda: accuracy("rmd17_ethanol/1000/surrogate", "rmd17_ethanol/1000/network"),
    "aspirin 50": lambda: accuracy("rmd17_aspirin/50/surrogate"),
    "azobenzene 50": lambda: accuracy("rmd17_azobenzene/50/surrogate"),
    "silicon": lambda: accuracy("mlearn_Si/all/surrogate", "mlearn_Si/all/network"),
    "molybdenum": lambda: accuracy("mlearn_Mo/all/surrogate", "mlearn_Mo/all/network"),
    "titania": lambda: accuracy("tio2/all/network"),
    "ec dimer": lambda: accuracy("ec_dimer/all/surrogate", "ec_dimer/all/network"),
    "li ec": lambda: accuracy("li_ec/all/network"),
    "cost": cost,
    "complexity": complexity,
}


def filled(text: str) -> str:
    """Return the page with its tables as they were measured."""

    def table(found: re.Match[str]) -> str:
        return f"<!-- table: {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (.+?) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> None:
    """Write the tables."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
