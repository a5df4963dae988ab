"""What happens to a study when its disk refuses: it ends with one line, loses nothing, and goes on with --resume."""

from __future__ import annotations

import errno
from pathlib import Path

from flowsearch.errors import FlowsearchError
from flowsearch.results import fold, read
from flowsearch.results.store import JOURNAL

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
REFUSALS = FULL | {errno.EIO, errno.EROFS, errno.ESTALE}
"""Errors that say something about the disk and nothing about what was written to it."""


def refuses(error: BaseException) -> bool:
    """Whether the disk is to blame, not who uses it.

    >>> refuses(OSError(errno.ENOSPC, "No space left on device")), refuses(OSError(errno.ENOENT, "No such file"))
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in REFUSALS


def refused(folder: Path, error: OSError) -> FlowsearchError:
    """The line to end a study with: what is wrong, how many rows of metrics are safe, and what to do.

    Args:
        folder: of the study.
        error: what the disk said.
    """
    try:
        rows = len(fold(read(folder / JOURNAL).events).readings)
    except OSError:
        rows = 0
    full = error.errno in FULL
    said = "disk full" if full else f"the disk failed ({error.strerror or error})"
    return FlowsearchError(f"{folder}: {said}, {rows} rows safe; {'make room' if full else 'mend it'} and --resume")
