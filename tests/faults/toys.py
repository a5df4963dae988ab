"""A study that costs nothing and whose every number is known, and a driver of it without Ray.

Workers import this module, so it knows nothing of any fault but those that a worker inflicts on itself.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from io import StringIO
from os import O_APPEND, O_CREAT, O_WRONLY, close, write
from pathlib import Path
from typing import Any
from unittest import mock

import fake_trials
import yaml
from rich.console import Console
from toy_spaces import TINY

from flowsearch.results import Reading
from flowsearch.results.store import write_atomically
from flowsearch.search import study
from flowsearch.search.asktell import Verdict
from flowsearch.search.disk import refuses
from flowsearch.search.recorder import Recorder
from flowsearch.search.space import Space, load
from flowsearch.search.view import View

LAST = "last.pt"
LOG, PACE, PLAN = "FAULTS_LOG", "FAULTS_PACE", "FAULTS_PLAN"
"""Environment: the file that says which epochs were trained; seconds per epoch; epochs at which workers die."""


def space(folder: Path, *overrides: str, **sections: Any) -> Space:
    """A space in `folder`, of one worker unless it says otherwise."""
    file = folder / "toy.yaml"
    tree = {"defaults": ["base", "_self_"], "study": "toy", **TINY, "resources": {"concurrent": 1}, **sections}
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return load(file, overrides)


def steady(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[list[Reading]]:
    """A known curve with a checkpoint after each epoch, from which it goes on as real training does."""
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = directory / LAST
    done = json.loads(checkpoint.read_bytes())["epoch"] if checkpoint.exists() else 0
    if done:
        yield fake_trials.at(config, done)
    for epoch in range(done + 1, config["training"]["epochs"] + 1):
        trained(directory.name, epoch)
        time.sleep(float(os.environ.get(PACE, "0")))
        write_atomically(checkpoint, json.dumps({"epoch": epoch, "weights": [0] * 500}).encode())
        yield fake_trials.at(config, epoch)


def mortal(config: Mapping[str, Any], *, directory: Path, corpus: Any = None) -> Iterator[list[Reading]]:
    """Real training in a worker that is killed at random moments of the epochs that were planned for it."""
    from flowsearch.training.trial import readings

    deaths = json.loads(os.environ.get(PLAN, "{}")).get(directory.name, [])
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / LAST).exists():
        trained(directory.name, 1)
    for measured in readings(config, directory=directory, corpus=corpus):
        epoch = measured[0].epoch
        if epoch in deaths and not (directory / f"died-{epoch}").exists():
            (directory / f"died-{epoch}").touch()
            delay = random.Random(f"{directory.name} {epoch}").uniform(0, 0.1)
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        yield measured
        if epoch < config["training"]["epochs"]:
            trained(directory.name, epoch + 1)


def trained(trial: str, epoch: int) -> None:
    """Write down that an epoch begins."""
    if LOG in os.environ:
        handle = os.open(os.environ[LOG], O_WRONLY | O_CREAT | O_APPEND, 0o666)
        write(handle, f"{trial} {epoch}\n".encode())
        close(handle)


def redone(log: Path) -> int:
    """Epochs that were begun more than once, as often as they were."""
    lines = log.read_text().splitlines() if log.exists() else []
    return len(lines) - len(set(lines))


def drive(toy: Space, folder: Path, *, resume: bool, readings: Any = steady, corpus: Any = None) -> int:
    """Run a study with everything but Ray: one worker, in this process, and tables written after every fourth epoch."""

    def searched(recorder: Recorder, *_: Any) -> None:
        while task := recorder.next():
            work(recorder, task.trial, readings(task.config, directory=Path(task.directory), corpus=corpus))

    quiet = Console(file=StringIO())
    with mock.patch.multiple(study, searched=searched, commit=lambda: None, COMPACT_EVERY=0.0):
        return study.run_space(toy, folder=folder, resume=resume, console=quiet)


def work(recorder: Recorder, trial: int, epochs: Iterator[list[Reading]]) -> None:
    """One trial to its end."""
    while True:
        try:
            measured = next(epochs)
        except StopIteration:
            recorder.finish(trial, Verdict("COMPLETE"))
            return
        except OSError as error:
            if refuses(error):
                recorder.refuse(error)
            raise
        if measured[0].epoch % 4 == 0:
            study.Snapshots(recorder.folder, View())()
        if recorder.report(trial, measured[0].epoch, measured, 1.0):
            return
