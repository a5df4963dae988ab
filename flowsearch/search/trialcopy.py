"""The copy of a trial's folder in a second place, so that one whose node is lost goes on where no disk is shared."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from flowsearch.results.mirror import Mirror, Place

EVERY = 60.0
"""Seconds between two copies of a trial that runs."""


class TrialCopy:
    """Brings a trial's folder from its place before it starts, and sends it there as it goes.

    1. A place that refuses costs the trial nothing but its copy: the actor's log says so, and the next copy has it all.

    Args:
        folder: of the trial, here.
        there: its copy.
    """

    def __init__(self, folder: Path, there: Place) -> None:
        self._mirror = Mirror(folder, there)
        self._due = time.monotonic() + EVERY

    def pull(self) -> None:
        """Fetch what another node got to."""
        try:
            self._mirror.pull()
        except (OSError, ValueError) as error:
            self._say(error)

    def push(self, *, at_once: bool = False) -> None:
        """Send what has changed, if it is time."""
        if not at_once and time.monotonic() < self._due:
            return
        try:
            self._mirror.push()
        except (OSError, ValueError) as error:
            self._say(error)
        self._due = time.monotonic() + EVERY

    def _say(self, error: Exception) -> None:
        sys.stderr.write(f"{self._mirror.there.path}: {error}\n")
