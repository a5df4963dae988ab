"""Takes away what a killed driver leaves behind: a small program that outlives it.

Ray's processes end with their driver, but two agents of Ray's first wait a minute for the answer of a server that is
gone as well. The program learns of the driver's death from a pipe, gives everyone time to go, and kills the rest. It
runs by its path, without this package: nothing here may need more than the standard library.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOOK_EVERY = 5.0
"""Seconds between two looks at what the driver has started; it starts most at first, and is looked at more often."""

GRACE = 10.0
"""Seconds that processes have to go by themselves."""

GOODBYE = b"."

Process = tuple[int, str]
"""Its id and the moment it began, for ids are used again."""


@contextmanager
def reaped() -> Iterator[None]:
    """While in this block, this process leaves no process behind if it is killed."""
    program = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
    reaper = subprocess.Popen(  # noqa: S603  our own file, by our own Python
        program,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            reaper.communicate(GOODBYE)


def processes() -> dict[Process, int]:
    """Every living process, with its parent's id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
                if state not in "ZX":
                    found[int(entry.name), rest[17]] = int(parent)
    return found


def descendants(roots: Iterable[int]) -> set[Process]:
    """Every process that these have started, and those that they have."""
    everyone, found, ancestors = processes(), set[Process](), set(roots)
    while more := {one for one, parent in everyone.items() if parent in ancestors} - found:
        found |= more
        ancestors |= {process for process, _ in more}
    return found


def main(driver: int) -> None:
    """Watch a driver until it says goodbye or dies."""
    known: set[Process] = set()
    wait, is_open = 0.5, True
    while is_open:
        is_open = not select.select([0], [], [], wait)[0]
        wait = min(1.1 * wait, LOOK_EVERY)
        alive = known & processes().keys()
        known |= descendants({driver, *(process for process, _ in alive)})
    if os.read(0, 1) == GOODBYE:
        return
    end = time.monotonic() + GRACE
    while (left := {one for one in known if one[0] != os.getpid()} & processes().keys()) and time.monotonic() < end:
        time.sleep(0.5)
    for process, _ in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
