"""The cells that name a row, and the signs after a name that say what its numbers must not be taken for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowsearch.report.rows import COLLAPSED_KL, Configuration
from flowsearch.report.tables import Cell, text


@dataclass(frozen=True)
class Mark:
    """A sign after a row's name.

    Args:
        sign: one character.
        holds: of which rows.
        meaning: what the caption says; `{split}` is the split shown.
    """

    sign: str
    holds: Callable[[Configuration], object]
    meaning: str


MARKS = (
    Mark(
        "†",
        lambda row: row.collapsed,
        f"collapsed for at least one seed: no active unit, or KL below {COLLAPSED_KL} nats.",
    ),
    Mark(
        "‡",
        lambda row: row.absent,
        "at least one seed has no reading on {split} at its best epoch and is left out of the mean.",
    ),
    Mark(
        "¶",
        lambda row: not row.is_bound,
        "no bound: the KL is a critic's dual estimate, which is a lower bound of the true KL, so -ELBO and PPL are "
        "optimistic and rank with nothing.",
    ),
    Mark(
        "✗",
        lambda row: row.broken,
        "breaks a limit that the search required, at the best epoch of at least one seed; ranked after all that break "
        "none.",
    ),
    Mark(
        "◆",
        lambda row: row.confirmed,
        "confirmed: the mean over fresh seeds, run to the end after the search had chosen the row; the search's own "
        "seeds are left out.",
    ),
)


def legend(shown: Sequence[Configuration], split: str) -> list[str]:
    """What each sign among the rows means, a sentence each."""
    return [
        f"{mark.sign} {mark.meaning.format(split=split)}" for mark in MARKS if any(mark.holds(row) for row in shown)
    ]


def model(configuration: Configuration | None, name: str | None = None) -> Cell:
    """The cell of a row's name, its signs after it.

    Args:
        configuration: the row; None where there is none.
        name: to show instead of its label.
    """
    if configuration is None:
        return text(name)
    return text(name or configuration.label, "".join(mark.sign for mark in MARKS if mark.holds(configuration)))


def seeds(configuration: Configuration) -> Cell:
    """How many replicates are COMPLETE, and of how many if not all are."""
    return share(configuration.complete, len(configuration.replicates))


def share(part: int, whole: int) -> Cell:
    """A count, and of how many if not of all.

    >>> share(3, 3).text, share(2, 3).text
    ('3', '2/3')
    """
    return Cell(str(part) if part == whole else f"{part}/{whole}", part)
