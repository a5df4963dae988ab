"""The copy of a running study in a second place, made beside the search: a slow network holds nothing up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from flowsearch.results import Reading
from flowsearch.results.mirror import Mirror, place
from flowsearch.search.asktell import Trial
from flowsearch.search.recorder import Watcher

EVERY = 60.0
"""Seconds between two copies, or twenty times what one takes."""


class Copies(Watcher):
    """Sends a study's files to its mirror now and then, and once more when it ends.

    1. A place that refuses is told of, once until it works again; the search goes on, and what was not sent is sent
       next time.

    Args:
        mirror: of the study's folder.
        note: is told.
    """

    def __init__(self, mirror: Mirror, note: Callable[[str], object]) -> None:
        self._mirror, self._note = mirror, note
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mirror")
        self._sending: Future[float] | None = None
        self._due = time.monotonic() + EVERY
        self._is_broken = False

    def measured(self, trial: Trial, readings: Sequence[Reading]) -> None:
        self._tick()

    def finished(self, trial: Trial) -> None:
        self._tick()

    def close(self) -> None:
        """Send what is left, and wait for it."""
        self._collect()
        self._sending = self._thread.submit(self._push)
        self._collect()
        self._thread.shutdown()

    def _tick(self) -> None:
        if time.monotonic() >= self._due and (self._sending is None or self._sending.done()):
            self._collect()
            self._sending = self._thread.submit(self._push)

    def _push(self) -> float:
        began = time.monotonic()
        self._mirror.push()
        return time.monotonic() - began

    def _collect(self) -> None:
        """Hear how the last copy went."""
        took = 0.0
        if self._sending is not None:
            try:
                took = self._sending.result()
                self._is_broken = False
            except (OSError, ValueError) as error:
                if not self._is_broken:
                    self._note(f"{self._mirror.there.path}: not copied: {str(error).strip().partition(chr(10))[0]}")
                self._is_broken = True
        self._due = time.monotonic() + max(EVERY, 20 * took)


@contextmanager
def copying(folder: Path, mirror: str | None, note: Callable[[str], object]) -> Iterator[list[Copies]]:
    """The watcher that copies a study's folder, if it has a mirror; at the end everything has been sent."""
    if mirror is None:
        yield []
        return
    copies = Copies(Mirror(folder, place(mirror) / folder.name), note)
    try:
        yield [copies]
    finally:
        copies.close()
