"""Everything flowsearch raises on purpose, and the exit code each one ends a command with.

FlowsearchError          1  the study could not finish
├── BadInput             2  what the user gave: where, which value, what was expected
│   ├── SpaceError       2  a search space or an override
│   ├── CorpusError      2  a corpus or one of its files
│   └── StudyError       2  a study that exists, or does not
├── Damaged              3  a result that cannot be read; whatever is good is still shown
├── Diverged             -  a trial whose loss or gradient is no longer finite: that trial FAILs
└── Intractable          -  a quantity that this distribution or flow cannot compute
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FlowsearchError(Exception):
    """The base of the tree; its message is one line that a user can act on."""

    exit_code = 1


class BadInput(FlowsearchError):
    """Something the user gave is wrong: the message says where, which value, and what was expected."""

    exit_code = 2


class SpaceError(BadInput):
    """A search space that cannot be run."""


class CorpusError(BadInput):
    """A corpus that is missing, empty or unreadable."""


class StudyError(BadInput):
    """A study that exists already, or that does not exist."""


class Damaged(FlowsearchError):
    """Results that fail their checksums or cannot be parsed."""

    exit_code = 3


class Diverged(FlowsearchError):
    """A loss or a gradient stopped being finite.

    >>> str(Diverged(12, "kl"))
    'kl is not finite at step 12'
    """

    def __init__(self, step: int, part: str) -> None:
        super().__init__(step, part)
        self.step, self.part = step, part

    def __str__(self) -> str:
        return f"{self.part} is not finite at step {self.step}"


class Intractable(FlowsearchError):
    """Asked of a distribution or a flow that has no such closed form."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name closest to `name`, else the known names, else nothing.

    >>> nearest("Planer", ["IAF", "Planar"])
    "; did you mean 'Planar'?"
    >>> nearest("zzz", ["IAF", "Planar"])
    '; expected one of IAF, Planar'
    """
    names = sorted(known)
    by_lower = {known_name.lower(): known_name for known_name in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    if close:
        return f"; did you mean '{by_lower[close[0]]}'?"
    return f"; expected one of {', '.join(names)}" if names else ""
