"""The page itself: what is on it, in which order."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gprann.data.structure import Dataset
from gprann.evaluation.page import tables
from gprann.evaluation.page.elements import Markup, element, join, section
from gprann.evaluation.page.figures import can_plot, learning_curves, plots
from gprann.evaluation.page.structures import draw_hardest, find_hardest
from gprann.evaluation.page.style import STYLE
from gprann.evaluation.page.verdict import Finding, Weight, headline, judge
from gprann.runtime.atomic_write import atomic_write

if TYPE_CHECKING:
    from gprann.evaluation.report import History, Report

_HARDEST = 4
_LONGEST_TEXT = 20_000  # characters of settings and the like
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_WORDS = {
    Weight.GOOD: "Good",
    Weight.NOTE: "Note",
    Weight.CAUTION: "Take care",
    Weight.PROBLEM: "Problem",
}


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedSet:
    """Structures, and how well the potential predicts them.

    Attributes
    ----------
    data : Dataset
    report : Report
        Of these structures, in their order.
    origin : str
        Where they come from, if that needs words.
    """

    data: Dataset
    report: Report
    origin: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PageContent:
    """The content of the page of a run.

    Attributes
    ----------
    title : str
    test : EvaluatedSet or None
    training : EvaluatedSet
    plots : bool
        Whether to draw the plots, if matplotlib is installed.
    history : mapping
        Learning curves, as `Report.save` takes them.
    findings : sequence of Finding
        Beyond what the errors say.
    facts : mapping of str to str
        Of the potential.
    check : str
        The verdict on the data.
    surrogate : mapping or None
        Metrics of the surrogates on the test set, as of `Report.to_dict`.
    choices : sequence of (str, str, str)
        What was chosen automatically: the name, the value, and the reason.
    settings : str
        The configuration.
    versions : mapping of str to str
    reproduce : sequence of str
        Commands, line by line.
    """

    title: str
    test: EvaluatedSet | None
    training: EvaluatedSet
    plots: bool = True
    history: History = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    check: str = ""
    surrogate: Mapping[str, Any] | None = None
    choices: Sequence[tuple[str, str, str]] = ()
    settings: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    reproduce: Sequence[str] = ()

    @property
    def main(self) -> EvaluatedSet:
        """The test set, or what there is instead."""
        return self.training if self.test is None else self.test

    @property
    def draws(self) -> bool:
        """Whether there are plots."""
        return self.plots and can_plot()


def write_page(content: PageContent, path: str | os.PathLike[str]) -> Path:
    """Write the page to a file; return the file.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    target = Path(path)
    text = make_page(content)
    with atomic_write(target) as stream:
        stream.write(text)
    return target


def make_page(content: PageContent) -> str:
    """Return the page as HTML: one document that loads nothing and runs nothing."""
    parts = {
        "errors": ("Errors", _errors(content)),
        "calibration": ("Uncertainties and guard", _uncertainty(content)),
        "hardest": ("Hardest structures", _hardest(content)),
        "learning": ("Learning", _learning(content)),
        "data": ("Data", _as_it_stands(content.check)),
        "potential": ("Potential", tables.facts("The potential", content.facts)),
        "settings": ("Settings and choices", _settings(content)),
        "reproduce": ("Versions, and how to do it again", _reproduce(content)),
    }
    shown = {name: part for name, part in parts.items() if part[1]}
    contents = element(
        "nav",
        element(
            "ul", *(element("li", element("a", title, href=f"#{name}")) for name, (title, _) in shown.items())
        ),
        aria_label="Contents",
    )
    body = element(
        "body",
        element("a", "Skip to the report", href="#main", class_="skip"),
        element("header", element("h1", content.title), _summary(content)),
        contents,
        element(
            "main", *(section(title, text, name=name) for name, (title, text) in shown.items()), id="main"
        ),
        element(
            "footer",
            element("p", "Written by gprann. This file loads nothing and runs nothing.", class_="muted"),
        ),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", content.title),
        element("style", Markup(STYLE)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _summary(content: PageContent) -> Markup:
    test = None if content.test is None else content.test.report
    findings = [*judge(test, content.training.report), *content.findings]
    listed = [
        element(
            "li",
            element("strong", f"{_WORDS[finding.weight]}: "),
            finding.text,
            class_=finding.weight.name.lower(),
        )
        for finding in sorted(findings, key=lambda one: -one.weight)
    ]
    caution = (
        "Errors on a test set tell of structures like those in it. Small ones are needed for a stable simulation, but "
        "not enough: in molecular dynamics let the guard watch (gprann md), and add what it finds (gprann explore)."
    )
    verdict = element(
        "div", element("p", headline(findings)), element("p", _in_short(content)), class_="verdict"
    )
    return join([verdict, element("ul", *listed, class_="findings"), element("p", caution, class_="muted")])


def _in_short(content: PageContent) -> str:
    species = ", ".join(content.training.data.species)
    texts = [f"A potential for {species}, made from {len(content.training.data)} structures"]
    if content.test is not None:
        texts.append(f"tested on {len(content.test.data)}")
    return ", ".join(texts) + "."


def _errors(content: PageContent) -> Markup:
    named = [("Test set", content.test), ("Training set", content.training)]
    parts = []
    for title, part in named:
        if part is None:
            continue
        metrics = part.report.metrics
        head = [element("h3", f"{title}: {len(part.data)} structures")]
        head += [element("p", part.origin)] if part.origin else []
        parts += [*head, tables.overview(metrics), tables.by_species(part.report.by_species)]
        parts.append(tables.by_group(part.report.by_group))
        if content.draws:
            parts.append(plots(part.report, shortly=part is not content.main))
    if not content.draws:
        why = "matplotlib is not installed" if content.plots else "output.plots is false"
        parts.append(element("p", f"There are no plots: {why}.", class_="muted"))
    if content.surrogate is not None and content.test is not None:
        parts.append(element("h3", "Surrogate"))
        parts.append(tables.of_surrogate(content.surrogate, content.test.report.metrics))
    return join(parts)


def _uncertainty(content: PageContent) -> Markup:
    report = content.main.report
    return join([tables.calibration(report.metrics), tables.by_grade(report.guard)])


def _hardest(content: PageContent) -> Markup:
    part = content.main
    found = find_hardest(part.report.residuals, _HARDEST)
    which = "test" if content.test is not None else "training"
    text = (
        f"The {which} structures with the largest errors, worst first, seen along their thinnest direction."
    )
    if any(one.atom is not None for one in found):
        text += (
            " Arrows on the atom with the double ring: reference force (solid) and predicted force (dashed)."
        )
    drawn = [draw_hardest(part.data[one.number], one) for one in found]
    return join([element("p", text), element("div", *drawn, class_="figures")])


def _learning(content: PageContent) -> Markup:
    return learning_curves(content.history) if content.draws else Markup("")


def _settings(content: PageContent) -> Markup:
    parts = [tables.choices(content.choices)]
    if content.settings:
        parts += [element("h3", "Configuration"), _as_it_stands(content.settings)]
    return join(parts)


def _reproduce(content: PageContent) -> Markup:
    parts = [tables.facts("Versions", content.versions)]
    if content.reproduce:
        text = (
            "The same data, configuration and versions give the same potential on the same kind of processor:"
        )
        parts += [element("p", text), _as_it_stands("\n".join(content.reproduce))]
    return join(parts)


def _as_it_stands(text: str) -> Markup:
    """Return a text with its line ends, cut where it is very long."""
    if not text.strip():
        return Markup("")
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}\n... the rest stands in the folder of the run"
    return element("pre", text.strip("\n"))
