"""HTML elements as text. What is no markup yet is escaped: nothing that comes from data becomes HTML by accident."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_VOID = frozenset(["br", "img", "meta"])
# Characters that HTML forbids, and those that turn the direction of writing, with which a name could look like another.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)


class Markup(str):
    """Text that is HTML already. All other text is escaped where it enters an element."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Return a text as HTML that shows it; markup stays as it is.

    Characters that HTML forbids, halves of surrogate pairs as in names of files that are no Unicode, and those that
    turn the direction of writing are replaced.

    Examples
    --------
    >>> escape("<b>"), escape(Markup("<b>")), escape("a\\x00")
    ('&lt;b&gt;', '<b>', 'a\\ufffd')
    """
    return text if isinstance(text, Markup) else Markup(html.escape(_FORBIDDEN.sub("\ufffd", text)))


def join(parts: Iterable[str]) -> Markup:
    """Return texts and markup one after the other as markup."""
    return Markup("".join(escape(part) for part in parts))


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element.

    Parameters
    ----------
    tag : str
    *children : str
        Texts, which are escaped, and markup.
    **attributes
        Their values are escaped; None leaves one out. An underscore stands for a hyphen, one at the end is dropped.

    Examples
    --------
    >>> element("p", "a < b", element("br"), class_="note")
    '<p class="note">a &lt; b<br></p>'
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(Markup.__str__(_plain(value)))}"'
        for name, value in attributes.items()
        if value is not None
    )
    begin = f"<{tag}{given}>"
    return Markup(begin if tag in _VOID else f"{begin}{join(children)}</{tag}>")


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"


def section(title: str, *children: str, name: str) -> Markup:
    """Return a section of the page with its heading, to which links `#name` lead."""
    return element("section", element("h2", title, id=name), *children, aria_labelledby=name)


def table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    """Return a table whose first column names the rows; nothing without rows.

    Examples
    --------
    >>> table("Errors", ["set", "MAE"], [["test", "0.1"]]).count("<th ")
    3
    """
    body = [
        element(
            "tr",
            *(
                element("th", cell, scope="row") if k == 0 else element("td", cell)
                for k, cell in enumerate(row)
            ),
        )
        for row in rows
    ]
    if not body:
        return Markup("")
    head = element("tr", *(element("th", with_unit(text), scope="col") for text in heads))
    return element("table", element("caption", caption), element("thead", head), element("tbody", *body))


def with_unit(text: str) -> Markup:
    """Return a label whose unit, which follows a comma, is not broken at the end of a line.

    Examples
    --------
    >>> with_unit("MAE, eV/Å")
    'MAE, <span class="unit">eV/Å</span>'
    """
    name, comma, unit = text.rpartition(", ")
    return join([name, comma, element("span", unit, class_="unit")]) if comma else escape(text)
