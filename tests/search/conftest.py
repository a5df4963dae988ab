from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flowsearch.search.cluster import machines
from flowsearch.search.space import Space, load

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)

from toy_spaces import TINY, MakeSpace  # noqa: E402  after the path


@pytest.fixture
def make_space(tmp_path: Path) -> MakeSpace:
    """A space from sections that replace those of `TINY`, and overrides."""

    def make(*overrides: str, **sections: Any) -> Space:
        file = tmp_path / "toy.yaml"
        tree = {"defaults": ["base", "_self_"], "study": "toy", **TINY, **sections}
        file.write_text(yaml.safe_dump(tree, sort_keys=False))
        return load(file, overrides)

    return make


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """One Ray for all tests of a session: two trials at once."""
    os.environ["PYTHONPATH"] = HERE  # workers import `fake_trials` by its name
    with machines(None, SimpleNamespace(cpus_per_trial=1, gpus_per_trial=0, concurrent=2), 2):
        yield
