"""The page that says how to cite, and `CITATION.cff`, name the same papers."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def titles() -> list[str]:
    """Titles of the references of `CITATION.cff`; a long one is folded over lines that are indented further."""
    references = (ROOT / "CITATION.cff").read_text(encoding="utf-8").partition("references:")[2]
    found = re.findall(r"^    title: (?:>-\n)?((?:.*\n)(?:      .*\n)*)", references, re.MULTILINE)
    return [" ".join(title.partition("    authors:")[0].split()) for title in found]


def test_papers_of_the_citation_file_are_on_the_page() -> None:
    page = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
    assert len(titles()) == 6
    assert not [title for title in titles() if f"*{title}*" not in page]


def test_version_and_title_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    version = re.search(r"^version: (\S+)$", citation, re.MULTILINE)
    assert version is not None
    assert f"version = {{{version[1]}}}" in page
