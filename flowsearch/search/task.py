"""What passes between the driver and a worker; a worker needs no more of the search than this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowsearch.results import Reading

READINGS = "flowsearch.training.trial:readings"
"""Where a study's trials come from: `module:function`, imported in the worker only."""

LAST = "last.pt"
"""The checkpoint from which a trial goes on, in its folder."""

Row = Mapping[str, Any]
"""A reading as JSON: `{split, values}`."""


@dataclass(frozen=True)
class Task:
    """One trial to train.

    Args:
        trial: its number.
        config: everything that determines it.
        directory: where its checkpoints lie; it goes on from the last one.
        name: for dashboards.
        epoch: the last one that the driver has heard of.
    """

    trial: int
    config: Mapping[str, Any]
    directory: str
    name: str
    epoch: int = 0


class Crash(Exception):
    """A trial raised what it should not have, and will again.

    Args:
        reason: one line.
        trace: the traceback.
    """

    def __init__(self, reason: str, trace: str) -> None:
        super().__init__(reason, trace)
        self.reason, self.trace = reason, trace


class OutOfMemory(Crash):
    """A trial needed more memory than there is."""


class DiskRefused(Crash):
    """A trial could not write what it must keep, through no fault of its own.

    Args:
        reason, trace: as of every crash.
        number: what the system calls it, an `errno`.
    """

    def __init__(self, reason: str, trace: str, number: int) -> None:
        super().__init__(reason, trace)
        self.args = (reason, trace, number)
        self.number = number


def as_rows(readings: Sequence[Reading]) -> list[Row]:
    """The readings of one epoch as JSON.

    >>> as_rows([Reading(1, "valid", {"elbo": -38.0})])
    [{'split': 'valid', 'values': {'elbo': -38.0}}]
    """
    return [{"split": reading.split, "values": dict(reading.values)} for reading in readings]


def as_readings(rows: Sequence[Row], epoch: int) -> list[Reading]:
    """The readings of one epoch, from JSON.

    >>> as_readings([{"split": "valid", "values": {"elbo": "NaN"}}], 2)
    [Reading(epoch=2, split='valid', values={'elbo': nan})]
    """
    return [Reading(epoch, row["split"], {name: float(value) for name, value in row["values"].items()}) for row in rows]
