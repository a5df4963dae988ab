"""Trials that train nothing and write down where they ran; workers import this module."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowsearch.results import Reading


def slow(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[list[Reading]]:
    """A curve of 0.4 s per epoch that goes on from its checkpoint, the node and the GPU written down every time it
    starts."""
    import ray

    checkpoint = directory / "last.txt"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 1
    with (directory / "nodes.txt").open("a") as file:
        gpus = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        file.write(f"{ray.get_runtime_context().get_node_id()} {','.join(gpus)} {first}\n")
    for epoch in range(first, config["training"]["epochs"] + 1):
        time.sleep(0.4)
        checkpoint.write_text(str(epoch + 1))
        elbo = -50 - config["model"]["latent_size"] + epoch
        yield [Reading(epoch, "valid", {"elbo": elbo, "kl": 2.0, "active_units": 2.0})]
