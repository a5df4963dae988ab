"""Several watchers as one: a view, gauges and loggers are told of the same events, in the same order."""

from __future__ import annotations

from collections.abc import Sequence

from flowsearch.results import Reading
from flowsearch.search.asktell import Trial
from flowsearch.search.recorder import Watcher


class Watchers(Watcher):
    """Tells each of several watchers what it is told.

    Args:
        watchers: in the order in which they are told.
    """

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = watchers

    def started(self, trial: Trial) -> None:
        for watcher in self._watchers:
            watcher.started(trial)

    def measured(self, trial: Trial, readings: Sequence[Reading]) -> None:
        for watcher in self._watchers:
            watcher.measured(trial, readings)

    def reported(self, trial: Trial, epoch: int) -> None:
        for watcher in self._watchers:
            watcher.reported(trial, epoch)

    def collapsed(self, trial: Trial, epoch: int) -> None:
        for watcher in self._watchers:
            watcher.collapsed(trial, epoch)

    def lost(self, trial: Trial, reason: str) -> None:
        for watcher in self._watchers:
            watcher.lost(trial, reason)

    def finished(self, trial: Trial) -> None:
        for watcher in self._watchers:
            watcher.finished(trial)
