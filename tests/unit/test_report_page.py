"""The report of a run as one page: what it says, that data cannot become HTML, and that everyone can read it."""

from __future__ import annotations

import base64
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ase.data import chemical_symbols, covalent_radii

from gprann.data.structure import Dataset, Structure
from gprann.evaluation.page.elements import Markup, element, escape, table
from gprann.evaluation.page.figures import learning_curves, plots
from gprann.evaluation.page.page import make_page, write_page
from gprann.evaluation.page.structures import Hardest, _tint, draw_structure, find_hardest
from gprann.evaluation.page.style import STYLE
from gprann.evaluation.page.verdict import Weight, headline, judge
from page_checks import Page, content_with, evaluated, water

HOSTILE = (
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)' x='",
    "</pre></style></svg><img src=x onerror=alert(1)>",
    "<!-- ]]> --><svg onload=alert(1)>",
    "&lt;b&gt; javascript:alert(1) \x00\x1b[31m \udcff \u202egnp.exe",
)


def contrast(one: str, other: str = "#ffffff") -> float:
    """Ratio of luminances, https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = np.array([int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)])
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(scope="module")
def page() -> Page:
    """A page with plots."""
    pytest.importorskip("matplotlib")
    return Page(make_page(content_with("water", plots=True)))


class TestEscaping:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_of_the_data_becomes_html(self, text: str, tmp_path: Path) -> None:
        harmless = Page(make_page(content_with("harmless")))
        page = Page(make_page(content_with(text)))
        assert page.shape == harmless.shape
        assert page.style == harmless.style
        for name in ("class", "id", "href", "style", "scope", "role"):
            assert [attributes.get(name) for _, attributes in page.elements] == [
                attributes.get(name) for _, attributes in harmless.elements
            ]
        file = write_page(content_with(text), tmp_path / "page.html")
        assert Page(file.read_text(encoding="utf-8")).shape == harmless.shape

    def test_the_text_is_shown_as_it_is(self) -> None:
        page = Page(make_page(content_with(HOSTILE[0])))
        assert sum(HOSTILE[0] in word for word in page.words) >= 15

    def test_characters_that_deceive_are_replaced(self) -> None:
        text = make_page(content_with(HOSTILE[-1]))
        assert not re.search("[\x00\x1b\u202e\ud800-\udfff]", text)

    def test_attributes(self) -> None:
        assert element("p", title='"<', class_="a", x=None) == '<p title="&quot;&lt;" class="a"></p>'
        assert escape(Markup("<b>")) == "<b>"

    def test_no_rows_no_table(self) -> None:
        assert table("errors", ["a"], []) == ""


class TestSelfContained:
    def test_nothing_is_loaded_and_nothing_runs(self, page: Page) -> None:
        tags = {tag for tag, _ in page.elements}
        assert tags.isdisjoint(
            {"script", "link", "iframe", "object", "embed", "base", "form", "video", "audio"}
        )
        assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
        assert all(image["src"].startswith("data:image/") for image in page.all("img"))
        assert all(link["href"].startswith("#") for link in page.all("a"))
        assert "url(" not in page.style
        assert "@import" not in page.style
        policy = next(
            meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
        )
        assert "default-src 'none'" in policy["content"]

    def test_all_plots_are_there(self, page: Page) -> None:
        images = page.all("img")
        assert len(images) == 8 + 3 + 1  # test set, training set, learning curves
        for image in images:
            kind, _, content = image["src"].partition(";base64,")
            found = base64.b64decode(content, validate=True)
            assert found.startswith(b"<?xml" if kind.endswith("svg+xml") else b"\x89PNG")
            assert b"<script" not in found

    def test_semantics(self, page: Page) -> None:
        (html,) = page.all("html")
        assert html["lang"] == "en"
        assert {"header", "nav", "main", "footer", "title"} <= {tag for tag, _ in page.elements}
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert all(len(image["alt"]) > 20 for image in page.all("img"))
        assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
        assert len(page.all("caption")) == len(page.all("table")) > 5
        assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))
        names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(set(names)) == len(names)
        assert {link["href"][1:] for link in page.all("a")} <= set(names)

    def test_the_same_figure_gives_the_same_bytes(self) -> None:
        pytest.importorskip("matplotlib")
        curves = {"member 0": [(1, 0.5, 0.6), (2, 0.2, 0.3)]}
        assert learning_curves(curves) == learning_curves(curves) != ""
        assert make_page(content_with("water")) == make_page(content_with("water"))

    def test_without_plots(self) -> None:
        page = Page(make_page(content_with("water")))
        assert page.all("img") == []
        assert any("output.plots is false" in word for word in page.words)

    def test_size_of_many_atoms(self) -> None:
        pytest.importorskip("matplotlib")
        images = Page(plots(evaluated(water(2500)).report, shortly=True)).all("img")
        assert len(images) == 3
        assert max(len(image["src"]) for image in images) < 200_000  # twelve of them are below 3 MB


class TestVerdict:
    @pytest.mark.parametrize(
        ("error", "count", "verdict"),
        [
            (0.01, 40, "Good for structures like those tested"),
            (0.01, 5, "Usable with care"),
            (0.12, 40, "Usable with care"),
            (0.5, 40, "Not ready to be used"),
        ],
    )
    def test_headline(self, error: float, count: int, verdict: str) -> None:
        data = water(40)
        tested = evaluated(data[:count], error=error).report
        findings = [
            finding
            for finding in judge(tested, evaluated(data, error=error).report)
            if "outside" not in finding.text
        ]
        assert headline(findings) == verdict

    def test_without_a_test_set(self) -> None:
        findings = judge(None, evaluated(water(40)).report)
        assert headline(findings) == "Not ready to be used"
        assert findings[0].text.startswith("There is no test set")

    def test_worse_than_on_the_training_set(self) -> None:
        data = water(40)
        findings = judge(evaluated(data, error=0.03).report, evaluated(data, error=0.01).report)
        (found,) = [finding for finding in findings if "times those on the training set" in finding.text]
        assert found.weight == Weight.CAUTION
        assert "3.00 times" in found.text

    def test_grades_and_uncertainties(self) -> None:
        texts = {
            finding.text: finding.weight
            for finding in judge(evaluated(water(40)).report, evaluated(water(40)).report)
        }
        (outside,) = [text for text in texts if "outside" in text]
        assert texts[outside] == Weight.CAUTION  # grades up to 1.2
        (within,) = [text for text in texts if "within one standard deviation" in text]
        assert texts[within] == Weight.GOOD

    def test_numbers_that_are_none(self) -> None:
        data = water(40)
        part = evaluated(data)
        part.report.residuals.energy_predicted[3] = np.nan
        assert headline(judge(part.report, part.report)) == "Not ready to be used"


class TestHardest:
    def test_worst_first(self) -> None:
        residuals = evaluated(water(30), error=0.01).report.residuals
        assert residuals.forces is not None
        residuals.forces.predicted[3 * 7 + 2] += 5.0
        residuals.forces.predicted[3 * 4] = np.nan
        first, second, _ = find_hardest(residuals, 3)
        assert (first.number, first.atom, second.number, second.atom) == (4, 0, 7, 2)
        assert second.error == pytest.approx(5.0 / np.sqrt(3), rel=0.02)

    def test_without_forces_by_energy(self) -> None:
        data = Dataset(Structure(("H", "H"), np.eye(2, 3) * 0.7, energy=float(k)) for k in range(5))
        from gprann.data.prediction import Prediction
        from gprann.evaluation.report import Report

        energies = data.energies.copy()
        energies[3] += 1.0
        report = Report.from_prediction(data, Prediction(energies, [np.zeros((2, 3))] * 5))
        (worst,) = find_hardest(report.residuals, 1)
        assert (worst.number, worst.atom, worst.error) == (3, None, 0.5)
        assert "double ring" not in draw_structure(data[3], worst)[0]

    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_all_that_is_drawn_lies_within_the_drawing(self, axis: int, sign: int) -> None:
        rng = np.random.default_rng(3)
        structure = Structure(
            ("C",) * 300, np.vstack([rng.uniform(0, 5, (50, 3)), rng.uniform(30, 40, (250, 3))])
        )
        outwards = np.eye(3)[axis] * sign * 9.0
        atom = int(np.argmax(structure.positions[:50] @ outwards))
        worst = Hardest(0, 1.0, atom, outwards, np.array([-5.0, 4.0, 1.0]), 0.1)
        text, shown = draw_structure(structure, worst)
        assert shown == 120
        page = Page(text)
        left, top, width, height = map(float, page.all("svg")[0]["viewbox"].split())
        circles = [[float(one[name]) for name in ("cx", "cy", "r")] for one in page.all("circle")]
        assert len(circles) == shown + 1
        ends = [float(number) for path in page.all("path") for number in re.findall(r"-?\d+\.\d", path["d"])]
        x = [value + sign * r for value, _, r in circles for sign in (-1, 1)] + ends[::2]
        y = [value + sign * r for _, value, r in circles for sign in (-1, 1)] + ends[1::2]
        assert left <= min(x)
        assert max(x) <= left + width
        assert top <= min(y)
        assert max(y) <= top + height


class TestReadable:
    def test_contrast_of_the_texts(self) -> None:
        colours = re.findall(r"[ {]color: (#[0-9a-f]+)", STYLE)
        assert len(colours) >= 3
        assert min(contrast(colour) for colour in colours) > 7
        assert min(contrast(colour, "#f3f4f6") for colour in colours) > 4.5

    def test_contrast_of_the_symbols(self) -> None:
        known = chemical_symbols[1 : min(len(covalent_radii), 104)]
        assert min(contrast("#1b1f24", _tint(symbol)) for symbol in known) > 4.5

    def test_lines_are_told_apart_without_colours(self) -> None:
        pytest.importorskip("matplotlib")
        from gprann.evaluation.plots import learning_curve, uncertainty_calibration

        curves = learning_curve({"a": [(1, 0.5, 0.6), (2, 0.2, 0.3)]}).axes[0].lines
        assert {line.get_linestyle() for line in curves} == {"-", "--"}
        right = uncertainty_calibration(evaluated(water(20)).report.residuals, stacked=True).axes[1]
        styles = [line.get_linestyle() for line in right.lines if "%" in str(line.get_label())]
        assert sorted(styles) == ["-", "--"]

    def test_elements_are_told_apart_without_colours(self) -> None:
        pytest.importorskip("matplotlib")
        from gprann.evaluation.plots import error_by_force

        axes = error_by_force(evaluated(water(40)).report.residuals).axes[0]
        assert len({line.get_marker() for line in axes.lines}) == len(axes.lines) == 2

    def test_content_is_what_it_says(self) -> None:
        page = Page(make_page(content_with("water")))
        words = " ".join(page.words)
        for expected in (
            "25 structures",
            "30 structures",
            "Uncertainties and guard",
            "Force errors by element",
        ):
            assert expected in words
