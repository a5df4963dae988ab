"""The recorder: the one place where anything happens to a search, written down before it counts.

Each call appends a line to the journal, which returns once the line is on disk, then changes the state of the search,
then tells whoever watches. The driver is the only writer, so there is one order of events and no lock between
workers.

1. A report of an epoch that the journal has already is dropped: a trial that goes on from its last checkpoint may
   repeat what it did after it.
2. A trial whose worker died is handed out again under its own number, from its last checkpoint, until `ATTEMPTS` have
   died.
3. A trial that is still running when the driver ends has no finish line, so it is handed out again on resume.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowsearch.errors import FlowsearchError
from flowsearch.results import Journal, Reading
from flowsearch.search.asktell import AskTell, Trial, Verdict
from flowsearch.search.task import Task, as_rows

ATTEMPTS = 3
"""Workers of a trial that may die before it counts as the trial's own failure."""


class Watcher:
    """Is told what happened, after it is on disk; by default nothing comes of it."""

    def started(self, trial: Trial) -> None:
        """A trial was handed out, for the first time or again."""

    def reported(self, trial: Trial, epoch: int) -> None:
        """An epoch was measured; `trial.latest` is its validation reading."""

    def collapsed(self, trial: Trial, epoch: int) -> None:
        """A posterior was seen to ignore the documents, for the first time in this trial."""

    def lost(self, trial: Trial, reason: str) -> None:
        """The worker of a trial died; the trial will be handed out again."""

    def finished(self, trial: Trial) -> None:
        """A trial ended; `trial.state` and `trial.reason` say how."""


class Recorder:
    """What happens to a search.

    Args:
        asktell: its state.
        journal: where it is written down.
        folder: of the study.
        watcher: is told.
        unfinished: trials to hand out first, again.
    """

    def __init__(
        self, asktell: AskTell, journal: Journal, folder: Path, watcher: Watcher, unfinished: Sequence[int] = ()
    ) -> None:
        self.asktell = asktell
        self.error: FlowsearchError | None = None
        self.folder = folder
        self._journal, self._watcher = journal, watcher
        self._waiting = deque(unfinished)
        self._deaths: Counter[int] = Counter()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Ray Tune pickles its searcher into a snapshot that nothing here reads: the journal is the truth."""
        return object, ()

    @property
    def running(self) -> int:
        """Trials that a worker has now."""
        return sum(trial.state == "RUNNING" for trial in self.asktell.trials) - len(self._waiting)

    def next(self) -> Task | None:
        """Hand out a trial; None if there is none to hand out now."""
        if self._waiting:
            trial = self.asktell.trials[self._waiting.popleft()]
            trial.attempt += 1
            return self._start(trial)
        while (drawn := self.asktell.ask()) is not None:
            task = self._start(drawn)
            if drawn.config:
                return task
            self.finish(drawn.number, Verdict("FAIL", drawn.reason))
        return None

    def _start(self, trial: Trial) -> Task:
        self._append(
            event="start",
            trial=trial.number,
            params=dict(trial.params),
            seed=trial.seed,
            label=trial.label,
            attempt=trial.attempt,
            phase=trial.phase,
        )
        self._watcher.started(trial)
        name = f"{self.asktell.space.study}-{trial.number}"
        return Task(trial.number, dict(trial.config), str(self.directory(trial.number)), name)

    def report(self, number: int, epoch: int, readings: Sequence[Reading], seconds: float) -> bool:
        """Record what was measured after an epoch; True if the trial is to stop here, which it then has."""
        trial = self.asktell.trials[number]
        has_valid = any(reading.split == "valid" for reading in readings)
        if trial.state != "RUNNING" or (has_valid and epoch in trial.elbo):
            return trial.state != "RUNNING"
        self._append(event="report", trial=number, epoch=epoch, readings=as_rows(readings), seconds=seconds)
        was_collapsed = trial.collapsed
        verdict = self.asktell.report(number, epoch, readings, seconds)
        if has_valid:
            self._watcher.reported(trial, epoch)
        if trial.collapsed and not was_collapsed:
            self._watcher.collapsed(trial, epoch)
        if verdict:
            self.finish(number, verdict)
        return verdict is not None

    def finish(self, number: int, verdict: Verdict, trace: str | None = None) -> None:
        """End a trial that has not ended yet.

        Args:
            number: of the trial.
            verdict: how it ends.
            trace: the traceback of a crash, kept as `error.txt` in the trial's folder.
        """
        trial = self.asktell.trials[number]
        if trial.state != "RUNNING":
            return
        verdict = self.asktell.settled(number, verdict)
        self._append(
            event="finish",
            trial=number,
            state=verdict.state,
            reason=verdict.reason,
            seconds=trial.seconds,
            best_epoch=trial.best_epoch,
        )
        if trace:
            self.directory(number).mkdir(parents=True, exist_ok=True)
            (self.directory(number) / "error.txt").write_text(trace)
        self.asktell.finish(number, verdict)
        self._watcher.finished(trial)

    def lost(self, number: int, reason: str) -> None:
        """The worker of a trial died: hand the trial out again, or give it up."""
        trial = self.asktell.trials[number]
        self._deaths[number] += 1
        if self._deaths[number] >= ATTEMPTS:
            self.finish(number, Verdict("FAIL", reason))
        elif trial.state == "RUNNING":
            self._waiting.append(number)
            self._watcher.lost(trial, reason)

    def directory(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / "trials" / str(number)

    def _append(self, **event: Any) -> None:
        try:
            self._journal.append(event)
        except OSError as error:
            self.error = FlowsearchError(
                f"{self.folder / 'journal.jsonl'}: {error.strerror or error}; nothing that was "
                "recorded is lost: make room and go on with --resume"
            )
            raise self.error from error
