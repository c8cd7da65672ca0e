"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the reference data set; the test is skipped where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GPRANN_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip("reference data not found: set GPRANN_SHARED_DATA")
    return folder
