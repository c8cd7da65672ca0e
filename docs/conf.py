"""Settings of Sphinx. Build with: sphinx-build -W --keep-going docs docs/_build"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import gprann

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

from generated_pages import write_pages

project = "gprann"
author = "The gprann developers"
version = release = gprann.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"gprann {release}"
html_static_path: list[str] = []

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

autoclass_content = "both"  # some classes document their parameters in __init__
autodoc_typehints = "none"  # the docstrings give types, shapes and units
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
default_role = "code"  # a name in backticks in a docstring is code


def setup(app: Sphinx) -> None:
    """Write the pages of commands and options before the sources are read."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
