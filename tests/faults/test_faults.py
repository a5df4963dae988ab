"""Every fault, a few times: nothing that was acknowledged is lost, and a study ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import COUNTS, FAULTS, ON_RAY


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.ray) if name in ON_RAY else name for name in FAULTS]
)
def test_a_fault_does_no_harm(tmp_path: Path, name: str) -> None:
    row = FAULTS[name](COUNTS["small"][name], tmp_path, 0)
    assert row.times >= 1
    assert row.is_harmless, row
