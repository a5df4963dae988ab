"""Studies whose trials train nothing, for measuring what surrounds training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from flowsearch.results import Reading
from flowsearch.search.space import Space, load
from flowsearch.search.study import run_space

SPACE = """
defaults: [base, _self_]
study: trivial
model:
  latent_size: {{int: [2, 64]}}
  posterior: {{choice: [Gaussian, {{Planar: {{k: {{int: [1, 4]}}}}}}, {{IAF: {{k: {{int: [1, 4]}}}}}}]}}
objective: {{beta: {{uniform: [0.2, 1.0]}}}}
training: {{epochs: {epochs}}}
search: {{trials: {trials}, sampler: TPE, pruner: {pruner}}}
resources: {{concurrent: 2}}
"""


def readings(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[list[Reading]]:
    """A curve of the parameters."""
    for epoch in range(1, config["training"]["epochs"] + 1):
        elbo = -30 - abs(config["model"]["latent_size"] - 16) / 4 - 20 / epoch
        values = {"elbo": elbo, "kl": 2.0, "active_units": 4.0, "ppl": 50.0, "reconstruction": -elbo - 2.0}
        yield [Reading(epoch, "train", values), Reading(epoch, "valid", values), Reading(epoch, "test", values)]


def space_of(folder: Path, trials: int, epochs: int, pruner: str = "ASHA") -> Space:
    """A small conditional space."""
    file = folder / "trivial.yaml"
    file.write_text(SPACE.format(trials=trials, epochs=epochs, pruner=pruner))
    return load(file)


def study_of(folder: Path, trials: int, epochs: int, *, pruner: str = "ASHA", reuse_actors: bool = True) -> None:
    """Run a study in `folder`, silently."""
    folder.mkdir()
    space = space_of(folder, trials, epochs, pruner)
    source = f"{__name__}:readings"
    console = Console(file=StringIO())
    code = run_space(space, folder=folder / "study", readings=source, console=console, reuse_actors=reuse_actors)
    assert code == 0
