"""One writer per study: a lock that the system gives back the moment its holder is gone, however it went.

`flock` belongs to an open file, so neither a crash nor `kill -9` leaves a lock behind that somebody has to remove.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowsearch.errors import StudyError

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only writer of a study.

    Raises:
        StudyError: another one has it, named by process and machine.
        OSError: the lock's file cannot be written.
    """
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise StudyError(f"{folder}: already running in {holder}; flowsearch status shows it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
