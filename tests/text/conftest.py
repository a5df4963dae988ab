"""Real text, where this machine has some."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_text() -> Path:
    """The folder of real corpora: $FLOWSEARCH_DATA, else the one beside the checkout."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    home = Path(os.environ.get("FLOWSEARCH_DATA", beside))
    if not home.is_dir():
        pytest.skip(f"no real text: {home} is not a folder (set FLOWSEARCH_DATA)")
    return home
