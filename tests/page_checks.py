"""What a page of a report must be, whatever it tells: helpers of its tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np

from gprann.data.prediction import Prediction
from gprann.data.structure import Dataset, Origin, Structure
from gprann.evaluation.page.page import EvaluatedSet, PageContent
from gprann.evaluation.page.verdict import Finding, Weight
from gprann.evaluation.report import Report

_VOID = {"br", "img", "meta"}


@dataclass
class Page(HTMLParser):
    """A parsed page: its elements in their order, with their attributes; it must be well nested."""

    text: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    style: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Elements and the names of their attributes."""
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]


def water(count: int, file: str = "water.extxyz", group: str = "", *, seed: int = 0) -> Dataset:
    """Water molecules, displaced at random."""
    rng = np.random.default_rng(seed)
    base = np.array([[0.0, 0.0, 0.1], [0.78, 0.61, 0.0], [-0.76, 0.59, -0.1]])
    return Dataset(
        Structure(
            ("O", "H", "H"),
            base + rng.normal(0, 0.05, (3, 3)),
            energy=float(rng.normal(-470, 0.3)),
            forces=rng.normal(0, 1.0, (3, 3)),
            group=group if k % 2 else "",
            origin=Origin(file, k),
        )
        for k in range(count)
    )


def evaluated(data: Dataset, *, error: float = 0.01, origin: str = "") -> EvaluatedSet:
    """A committee's prediction with random errors of a size relative to the forces and energies."""
    rng = np.random.default_rng(1)
    energies = data.energies + 0.3 * error * rng.normal(size=len(data))
    forces = [np.asarray(item.forces) + error * rng.normal(size=(len(item), 3)) for item in data]
    prediction = Prediction(
        energies,
        forces,
        energy_std=np.full(len(data), 0.3 * error),
        forces_std=[np.full((len(item), 3), error) for item in data],
        grades=[rng.uniform(0.1, 1.2, len(item)) for item in data],
    )
    return EvaluatedSet(data, Report.from_prediction(data, prediction), origin)


def content_with(text: str, *, plots: bool = False) -> PageContent:
    """A page in which one text stands at every place that takes a text from data."""
    return PageContent(
        title=text,
        test=evaluated(water(25, text, text), origin=text),
        training=evaluated(water(30, text, text, seed=2)),
        plots=plots,
        history={text: [(1, 0.5, 0.6), (2, 0.2, 0.3)]},
        findings=[Finding(Weight.CAUTION, text)],
        facts={text: text},
        check=text,
        surrogate={"n_structures": 25, "energy_mae": 0.01},
        choices=[(text, text, text)],
        settings=text,
        versions={text: text},
        reproduce=[text],
    )
