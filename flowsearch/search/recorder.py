"""The recorder: the one place where anything happens to a search, written down before it counts.

Each call appends a line to the journal, which returns once the line is on disk, then changes the state of the search,
then tells whoever watches. The driver is the only writer, so there is one order of events and no lock between
workers.

1. A report of an epoch that the journal has already is dropped: a trial that goes on from its last checkpoint may
   repeat what it did after it.
2. A trial whose worker died is handed out again under its own number, from its last checkpoint: always if it went with
   its node, otherwise until more than `resources.max_failures` of its workers have died.
3. A trial that ran out of memory is handed out once more, with half the batch at a time; one that diverged never.
4. A trial that is still running when the driver ends has no finish line, so it is handed out again on resume.
5. The checkpoint to continue a trial from goes once the trial's end is on disk; its best model stays.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from flowsearch.errors import FlowsearchError
from flowsearch.results import Journal, Reading
from flowsearch.search.asktell import AskTell, Trial, Verdict
from flowsearch.search.disk import refused
from flowsearch.search.task import LAST, Task, as_rows


class Watcher:
    """Is told what happened, after it is on disk; by default nothing comes of it."""

    def started(self, trial: Trial) -> None:
        """A trial was handed out, for the first time or again."""

    def measured(self, trial: Trial, readings: Sequence[Reading]) -> None:
        """Everything that was measured after an epoch, each split on its own."""

    def reported(self, trial: Trial, epoch: int) -> None:
        """An epoch was measured; `trial.latest` is its validation reading."""

    def collapsed(self, trial: Trial, epoch: int) -> None:
        """A posterior was seen to ignore the documents, for the first time in this trial."""

    def lost(self, trial: Trial, reason: str) -> None:
        """A trial was cut short; it will be handed out again."""

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

    `draining` is set from outside: trials are to stop at their next report and stay unfinished. So is `may_begin`:
    it is asked before each new trial whether there is time for one. `watcher` may be replaced by another.
    """

    def __init__(
        self, asktell: AskTell, journal: Journal, folder: Path, watcher: Watcher, unfinished: Sequence[int] = ()
    ) -> None:
        self.asktell = asktell
        self.error: FlowsearchError | None = None
        self.draining = False
        self.may_begin: Callable[[], bool] = lambda: True
        self.folder = folder
        self._journal, self.watcher = journal, watcher
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
        while self.may_begin() and (drawn := self.asktell.ask()) is not None:
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
            halved=trial.halved,
            phase=trial.phase,
        )
        self.watcher.started(trial)
        name = f"{self.asktell.space.study}-{trial.number}"
        return Task(trial.number, dict(trial.config), str(self.directory(trial.number)), name, trial.last_epoch)

    def report(self, number: int, epoch: int, readings: Sequence[Reading], seconds: float) -> bool:
        """Record what was measured after an epoch; True if the trial is to stop here, which it then has."""
        trial = self.asktell.trials[number]
        has_valid = any(reading.split == "valid" for reading in readings)
        if trial.state != "RUNNING" or (has_valid and epoch in trial.elbo):
            return trial.state != "RUNNING"
        self._append(event="report", trial=number, epoch=epoch, readings=as_rows(readings), seconds=seconds)
        was_collapsed = trial.collapsed
        verdict = self.asktell.report(number, epoch, readings, seconds)
        self.watcher.measured(trial, readings)
        if has_valid:
            self.watcher.reported(trial, epoch)
        if trial.collapsed and not was_collapsed:
            self.watcher.collapsed(trial, epoch)
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
            with self._disk():
                self.directory(number).mkdir(parents=True, exist_ok=True)
                (self.directory(number) / "error.txt").write_text(trace)
        self.tidy(number)
        self.asktell.finish(number, verdict)
        self.watcher.finished(trial)

    def lost(self, number: int, reason: str, *, counts: bool = True) -> None:
        """The worker of a trial is gone: hand the trial out again, or give it up.

        Args:
            number: of the trial.
            reason: one line.
            counts: towards `resources.max_failures`; not if the trial cannot be to blame.
        """
        self._deaths[number] += counts
        if self._deaths[number] > self.asktell.space.resources.max_failures:
            self.finish(number, Verdict("FAIL", f"{reason} ({self._deaths[number]} times)"))
        else:
            self._again(number, "worker" if counts else "node", reason)

    def out_of_memory(self, number: int, trace: str) -> None:
        """A trial ran out of memory: once more with half the batch at a time, which makes the same steps."""
        trial = self.asktell.trials[number]
        if trial.halved:
            self.finish(number, Verdict("FAIL", "out of memory, with half the batch at a time as well"), trace)
        else:
            trial.halve()
            self._again(number, "memory", "out of memory; now half the batch at a time")

    def refuse(self, error: OSError) -> NoReturn:
        """End the search because of the disk; everything that was recorded is safe.

        Raises:
            FlowsearchError: always.
        """
        self.error = refused(self.folder, error)
        raise self.error from error

    def tidy(self, number: int) -> None:
        """Let go of what only an unfinished trial needs; what cannot be removed now goes on the next resume."""
        with suppress(OSError):
            (self.directory(number) / LAST).unlink(missing_ok=True)

    def _again(self, number: int, cause: str, reason: str) -> None:
        trial = self.asktell.trials[number]
        if trial.state != "RUNNING":
            return
        self._append(event="lost", trial=number, cause=cause, reason=reason)
        self._waiting.append(number)
        self.watcher.lost(trial, reason)

    def directory(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / "trials" / str(number)

    def _append(self, **event: Any) -> None:
        with self._disk():
            self._journal.append(event)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.refuse(error)
