from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from flowsearch.search.cluster import machines
from flowsearch.search.space import Space, load

TINY = {
    "data": {"corpus": {"synthetic": {"train": 200, "valid": 50, "test": 50}}},
    "model": {
        "latent_size": {"int": [10, 32]},
        "encoder": {"LSTMEncoder": {"embedding_size": 8, "hidden_size": 8}},
        "decoder": {"LSTMDecoder": {"embedding_size": 8, "hidden_size": 8, "dropout": 0.5}},
    },
    "objective": {"beta": {"uniform": [0.2, 1.0]}},
    "training": {"epochs": 9},
}

MakeSpace = Callable[..., Space]


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
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with machines(None, SimpleNamespace(cpus_per_trial=1, gpus_per_trial=0, concurrent=2), 2):
        yield
