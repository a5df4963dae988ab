"""A driver without Ray: a loop that hands tasks to fake trials and reports what they yield."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import fake_trials

from flowsearch.errors import Diverged
from flowsearch.results import Journal, read
from flowsearch.search.asktell import AskTell, Verdict
from flowsearch.search.recorder import Recorder, Watcher
from flowsearch.search.resume import replay, unfinished
from flowsearch.search.space import Space


class Halt(Exception):
    """The driver dies here."""


class Clock:
    """Always later, so that everything is read at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


class Countdown(Watcher):
    """Kills the driver after a number of reports."""

    def __init__(self, reports: float = math.inf) -> None:
        self.left = reports
        self.collapses: list[tuple[int, int]] = []

    def reported(self, trial: Any, epoch: int) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Halt

    def collapsed(self, trial: Any, epoch: int) -> None:
        self.collapses.append((trial.number, epoch))


def simulate(
    space: Space, folder: Path, readings: Any = fake_trials.curve, watcher: Watcher | None = None, workers: int = 1
) -> AskTell:
    """What a driver does, with workers that take turns, an epoch each; resumes if there is a journal."""
    folder.mkdir(exist_ok=True)
    path = folder / "journal.jsonl"
    search, verdicts = replay(space, read(path).events if path.exists() else [])
    with Journal(path) as journal:
        pending = [number for number in unfinished(search) if number not in verdicts]
        recorder = Recorder(search, journal, folder, watcher or Watcher(), pending)
        for number, verdict in verdicts.items():
            recorder.finish(number, verdict)
        running: list[Any] = []
        while True:
            while len(running) < workers and (task := recorder.next()):
                running.append((task.trial, readings(task.config, directory=Path(task.directory))))
            if not running:
                return search
            number, epochs = running.pop(0)
            if not work(recorder, number, epochs):
                running.append((number, epochs))


def work(recorder: Recorder, number: int, epochs: Any) -> bool:
    """One epoch of one trial; True if it ended."""
    try:
        measured = next(epochs)
    except StopIteration:
        recorder.finish(number, Verdict("COMPLETE"))
        return True
    except Diverged as error:
        recorder.finish(number, Verdict("FAIL", str(error)))
        return True
    return recorder.report(number, measured[0].epoch, measured, 1.0)


def rows(folder: Path) -> list[tuple[int, int]]:
    """Every (trial, epoch) in the journal, as often as it is there."""
    events = read(folder / "journal.jsonl").events
    return [(event["trial"], event["epoch"]) for event in events if event["event"] == "report"]


def curves(search: AskTell) -> list[Any]:
    return [(t.params, t.seed, t.state, t.reason, t.elbo, t.best_epoch) for t in search.trials]
