"""Trials that train nothing: curves of their parameters, and every way to end badly. Workers import this module."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from flowsearch.errors import Diverged
from flowsearch.results import Reading

Readings = list[Reading]


def curve(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[Readings]:
    """Rises towards a best value that depends on the parameters; goes on from its checkpoint, whose epoch it
    repeats."""
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = directory / "last.txt"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 1
    for epoch in range(first, config["training"]["epochs"] + 1):
        checkpoint.write_text(str(epoch))
        yield at(config, epoch)


def at(config: Mapping[str, Any], epoch: int) -> Readings:
    """What `curve` measures at an epoch."""
    size, beta = config["model"]["latent_size"], config["objective"]["beta"]
    elbo = -30 - abs(size - 16) / 4 - (beta - 0.7) ** 2 - 20 / epoch - config["seed"] / 100
    values = {"elbo": elbo, "kl": 2.0, "active_units": float(size), "ppl": 50.0}
    return [Reading(epoch, "train", {"elbo": elbo - 1}), Reading(epoch, "valid", values)]


def resumable(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[Readings]:
    """`curve`, with the checkpoints of real training: it says the epoch of one that it continues again."""
    checkpoint = directory / "last.pt"
    done = json.loads(checkpoint.read_text())["epoch"] if checkpoint.exists() else 0
    for epoch in range(max(done, 1), config["training"]["epochs"] + 1):
        checkpoint.write_text(json.dumps({"epoch": epoch}))
        yield at(config, epoch)


def introspective(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[Readings]:
    """`curve`, writing down what its process is called."""
    for readings in curve(config, directory=directory):
        (directory / "title").write_text(Path("/proc/self/cmdline").read_text().partition("\0")[0])
        yield readings


def patient(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[Readings]:
    """`curve`, with an epoch of 35 s, at whose end it writes down what Ray's metrics are."""
    import ray

    for number, readings in enumerate(curve(config, directory=directory)):
        if number:
            time.sleep(35)
            [node] = ray.nodes()
            with urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics") as answer:
                (directory / "metrics").write_bytes(answer.read())
        yield readings


def slow(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[Readings]:
    """`curve`, a fifth of a second per epoch."""
    for readings in curve(config, directory=directory):
        time.sleep(0.2)
        yield readings


def diverges(epoch: int) -> Readings:
    raise Diverged(12, "kl")


def crashes(epoch: int) -> Readings:
    raise ValueError(f"[bold]no[/] such thing\nat epoch {epoch}")


def runs_out(epoch: int) -> Readings:
    raise MemoryError


def is_nan(epoch: int) -> Readings:
    return [Reading(epoch, "valid", {"elbo": float("nan")})]


def collapses(epoch: int) -> Readings:
    return [Reading(epoch, "valid", {"elbo": -60.0 + epoch, "kl": 0.01, "active_units": 0.0})]


BAD = {1: diverges, 2: crashes, 3: runs_out, 4: is_nan, 5: collapses}
"""What trials with a small latent size do at their second epoch."""


def runs_out_of_gpu(epoch: int) -> Readings:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory")


BULKY = {7: runs_out, 8: runs_out_of_gpu}
"""Latent sizes whose whole batch does not fit into memory."""

DEADLY = 6
"""The latent size whose worker dies at the second epoch, unless the trial has been there before."""


def bad(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[Readings]:
    """`curve`, but for small latent sizes."""
    size = config["model"]["latent_size"]
    for readings in curve(config, directory=directory):
        epoch = readings[0].epoch
        if epoch == 2 and size == DEADLY and not (directory / "died").exists():
            (directory / "died").touch()
            os._exit(1)
        if epoch == 2 and config["training"]["accumulate"] == 1 and size in BULKY:
            BULKY[size](epoch)
        yield BAD[size](epoch) if epoch >= 2 and size in BAD else readings


def no_room(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[Readings]:
    """`curve`, but the first time ever the disk is full at the second epoch."""
    for readings in curve(config, directory=directory):
        if readings[0].epoch == 2 and not (directory.parent / "full").exists():
            (directory.parent / "full").touch()
            raise OSError(28, "No space left on device")
        yield readings
