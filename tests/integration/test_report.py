"""`report.html` of a run, `gprann report`, and how a real browser shows the page."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import gprann
from gprann.cli.main import main
from gprann.evaluation.page.page import make_page
from gprann.pipeline.page import report_run
from page_checks import Page, content_with

CONFIG = """
data.train = "train.extxyz"
data.test = "test.extxyz"
descriptor.radial_cutoff = 8.0
descriptor.angular_order = "none"
surrogate.kernel = "pairs"
output.plots = false
[augmentation]
copies = 2
displacement = 0.05
[training]
hidden = [3]
members = 2
iterations = 3
starts = 1
"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, beside its data."""
    folder = tmp_path_factory.mktemp("run")
    gprann.write(folder / "train.extxyz", gprann.examples.hydrogen(9))
    gprann.write(folder / "test.extxyz", gprann.examples.hydrogen(21, 0.97, 2.03))
    (folder / "config.toml").write_text(CONFIG)
    gprann.run(folder / "config.toml")
    return folder / "results"


class TestRun:
    def test_a_run_leaves_the_page(self, finished: Path) -> None:
        page = Page((finished / "report/report.html").read_text(encoding="utf-8"))
        words = " ".join(page.words)
        assert "Potential for H: report" in words
        assert "tested on 21" in words
        assert "surrogate" in [word for word in page.words if word == "surrogate"]
        assert len(page.all("svg")) == 4
        metrics = json.loads((finished / "report/metrics.json").read_text())
        assert f"{1e3 * metrics['test']['energy_per_atom_mae']:#.3g}" in words
        settings = next(word for word in page.words if 'kernel = "pairs"' in word)
        assert "copies = 2" in settings

    def test_the_command_writes_the_same_again(
        self, finished: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = finished / "report/report.html"
        before = file.read_bytes()
        file.unlink()
        assert main(["report", str(finished)]) == 0
        assert capsys.readouterr().out.strip() == f"written: {file}"
        assert file.read_bytes() == before
        again = gprann.run(finished.parent / "config.toml")
        assert "report" in again.skipped

    def test_data_that_have_changed(self, finished: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(finished, copy)
        settings = (copy / "config.toml").read_text()
        assert str(finished.parent / "train.extxyz") in settings
        gprann.write(tmp_path / "other.extxyz", gprann.examples.hydrogen(8))
        (copy / "config.toml").write_text(
            settings.replace(str(finished.parent / "train.extxyz"), str(tmp_path / "other.extxyz"))
        )
        text = report_run(copy, tmp_path / "page.html").read_text(encoding="utf-8")
        assert "the files have changed" in text
        assert "the files have changed" not in (finished / "report/report.html").read_text(encoding="utf-8")

    def test_damaged_notes_of_the_run(self, finished: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(finished, copy)
        for text in (
            "[]",
            "{",
            '{"surrogate": 3, "choices": []}',
            '{"surrogate": {"n_structures": "<b>"}}',
            '{"choices": {"choices": 5}}',
        ):
            (copy / "report/metrics.json").write_text(text)
            assert "Errors" in report_run(copy).read_text(encoding="utf-8")

    def test_no_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["report", str(tmp_path)]) == 2
        assert "holds no finished run (config.toml and potential.gprann); give" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
class TestBrowser:
    @pytest.fixture(scope="class")
    @classmethod
    def page(cls) -> str:
        pytest.importorskip("matplotlib")
        return make_page(content_with("a/long/path" * 12 + " some words " + "W" * 150, plots=True))

    @pytest.mark.parametrize("width", [390, 1280])
    def test_no_scrolling_sideways_and_no_messages(self, page: str, width: int, tmp_path: Path) -> None:
        frame = tmp_path / "frame.html"  # a window of Chromium is at least 500 pixels wide, a frame is not
        frame.write_text(
            f'<!doctype html><title>frame</title><iframe width={width} height=800 style="border:0" '
            f'srcdoc="{html.escape(page)}"></iframe><p></p><script>onload = () => {{'
            "const inner = document.querySelector('iframe').contentDocument;"
            "const pictures = [...inner.images];"
            "document.querySelector('p').textContent = JSON.stringify({"
            "width: inner.documentElement.scrollWidth, height: inner.documentElement.scrollHeight,"
            "pictures: pictures.length, loaded: pictures.filter(one => one.naturalWidth > 0).length,"
            "wide: [...inner.querySelectorAll('body *')].filter(one => !one.classList.contains('skip') &&"
            f"one.getBoundingClientRect().right > {width}.5).map(one => one.tagName)"
            "}) }</script>",
            encoding="utf-8",
        )
        found, messages = open_in_browser(frame, tmp_path)
        (text,) = re.findall("<p>(.*?)</p>", found.partition("</iframe>")[2])
        measured = json.loads(html.unescape(text))
        assert measured["width"] == width
        assert measured["wide"] == []
        assert measured["height"] > 3000
        assert measured["pictures"] == measured["loaded"] == 12
        assert messages == []

    def test_messages_would_be_seen(self, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        page.write_text("<!doctype html><title>t</title><script>console.error('seen')</script>")
        _, (message,) = open_in_browser(page, tmp_path)
        assert "seen" in message


def open_in_browser(page: Path, folder: Path) -> tuple[str, list[str]]:
    """Return the document after it was loaded, and the messages of the console."""
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
    ]
    command += [f"--user-data-dir={folder / 'browser'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
