"""The table of public.py: its results beside published ones, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from public_sets import SETS, PublicSet

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "bench" / "results" / "public.md"
BEGIN, END = "<!-- public sets: begin -->", "<!-- public sets: end -->"
LONG = (
    "data",
    "structures",
    "model",
    "energy MAE (RMSE)",
    "force MAE (RMSE), meV/Å",
    "energies within 1 / 2 std, %",
    "forces within 1 / 2 std, %",
    "s (CPU s)",
    "GiB",
    "published, energy / force",
)
SHORT = ("data", "structures", "model", "energy MAE", "force MAE, meV/Å", "published, energy / force")
MODELS = {
    "surrogate": "surrogate",
    "network": "network",
    "distilled": "network taught by the surrogate",
    "demo": "GPR-ANN, committee of ten",
}


def write_tables(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the long table with citations, and the tables of README.md and docs/results.md between their marks."""
    long = table(results, LONG)
    text = f"{long}\n\n{notes(results)}\n"
    TABLE.write_text(f"# Public data sets\n\n{text}", encoding="utf-8")
    print(text)
    replace_between_marks(ROOT / "docs" / "results.md", text)
    replace_between_marks(ROOT / "README.md", table(results, SHORT) + "\n")


def table(results: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...]) -> str:
    """Return a row for each part that has been measured."""
    lines = [columns, tuple("---" for _ in columns)]
    for part, result in results.items():
        name, structures, model = part.split("/")
        row = cells(SETS[name], structures, model, result)
        lines.append(tuple(row[column] for column in columns))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cells(one: PublicSet, structures: str, model: str, result: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of a row by column."""
    published = one.peers.get(None if structures == "all" else int(structures), "")
    row = dict.fromkeys(LONG, "") | {
        "data": one.title,
        "structures": str(result.get("n_train", structures)),
        "model": MODELS[model],
        "published, energy / force": published,
    }
    if "refused" in result:
        return row | dict.fromkeys(("energy MAE", "energy MAE (RMSE)"), "refused")
    energy = "energy_per_atom" if one.unit == "meV/atom" else "energy"
    plain = f"**{number(result.get(f'{energy}_mae'))}** {one.unit}"
    force = f"**{number(result.get('force_mae'))}**"
    return row | {
        "energy MAE": plain,
        "energy MAE (RMSE)": f"{plain} ({number(result.get(f'{energy}_rmse'))})",
        "force MAE, meV/Å": force,
        "force MAE (RMSE), meV/Å": f"{force} ({number(result.get('force_rmse'))})",
        "energies within 1 / 2 std, %": shares(result, ""),
        "forces within 1 / 2 std, %": shares(result, "force_"),
        "s (CPU s)": f"{result['seconds']:.0f} ({result['cpu_seconds']:.0f})",
        "GiB": f"{result['peak_GiB']:.1f}",
    }


def number(value: float | None) -> str:
    """Return two significant digits of small numbers, integers of large ones."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def shares(result: Mapping[str, Any], prefix: str) -> str:
    """Return the shares of errors within one and two standard deviations."""
    one, two = result.get(f"{prefix}within_one_std"), result.get(f"{prefix}within_two_std")
    return "" if one is None or two is None else f"{100 * one:.0f} / {100 * two:.0f}"


def notes(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return machines, dates, and the citations of the sets that were measured."""
    machines = sorted(
        {
            f"{machine['processor']}, {machine['threads']} threads, gprann {machine['gprann']}, {machine['date']}"
            for machine in (result["machine"] for result in results.values())
        }
    )
    used = dict.fromkeys(part.split("/")[0] for part in results)
    sources = dict.fromkeys(source for name in used for source in SETS[name].sources)
    return (
        "Errors of networks are medians over seeds, times those of one seed; errors of H2 are of the magnitude of "
        "forces. A normal distribution has 68 / 95 % within one / two standard deviations.\n\n"
        f"Measured on: {'; '.join(machines)}.\n\nPublished: {'; '.join(sources)}."
    )


def replace_between_marks(path: Path, text: str) -> None:
    """Replace what stands between the marks of a file; a file without marks is left alone."""
    content = path.read_text(encoding="utf-8")
    if BEGIN not in content or END not in content:
        return
    before, rest = content.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
