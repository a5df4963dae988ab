"""A budget of time: which trials still fit, and when those that run have to stop so that the study ends inside it.

Every question is asked of `Spending`, which knows no clock. How long a trial takes is what trials of this study have
taken: all the time spent over the number that have ended (Epstein and Sobel, Life Testing, JASA 1953), so that long
trials, which are still running when short ones have ended, count from the start.

1. A trial that is not expected to end within the budget is not begun; one that was begun before goes on.
2. When the running trials have just the time to end the epoch that they are in, each stops there, with its checkpoint,
   and stays unfinished: with a larger budget, `--resume` goes on with it.
3. `MARGIN` of the budget, at most `MOST_MARGIN`, is left for whatever comes after: stopping Ray, writing tables.
4. Wall clock counts while a driver runs: from the start of each session to its last event, never between two sessions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowsearch.search.asktell import AskTell, Trial

MARGIN, MOST_MARGIN = 0.05, 300.0
"""Share of a budget, and seconds, that are left for what comes after the last trial."""

HOUR = 3600.0
DRIVEN = ("start", "report", "finish", "lost")
"""Events that only a running driver writes."""


@dataclass(frozen=True)
class Spending:
    """One kind of time: how much there is, and how much is gone or spoken for. All in seconds.

    Args:
        name: for messages.
        limit: the budget.
        spent: so far.
        promised: what the running trials are expected to take yet.
        unreported: what is spent beyond that, at most, when the running trials stop at the end of their epochs.
    """

    name: str
    limit: float
    spent: float
    promised: float
    unreported: float

    @property
    def usable(self) -> float:
        """The limit less the margin."""
        return self.limit - min(MARGIN * self.limit, MOST_MARGIN)

    def fits(self, seconds: float) -> bool:
        """Whether another trial of this length ends within the budget."""
        return self.spent + self.promised + seconds <= self.usable

    @property
    def is_closing(self) -> bool:
        """Whether the running trials have to stop when their epochs end."""
        return self.spent + self.unreported >= self.usable

    @property
    def is_over(self) -> bool:
        """Whether they have to stop now."""
        return self.spent >= self.usable


class Meter:
    """What a study has spent of its budget. Without one, everything fits.

    Args:
        search: whose trials they are.
        events: of the journal, from earlier sessions.
        clock: seconds, from any origin.
    """

    def __init__(
        self, search: AskTell, events: Sequence[Mapping[str, Any]] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._search, self._clock = search, clock
        self._before, self._began = driven(events), clock()
        self.refused: str | None = None

    @property
    def wall(self) -> float:
        """Seconds of wall clock in all sessions."""
        return self._before + self._clock() - self._began

    def spendings(self) -> list[Spending]:
        """One for each kind of time that the budget limits."""
        budget = self._search.space.search.budget
        if budget is None:
            return []
        trials = self._search.trials
        running = [trial for trial in trials if trial.state == "RUNNING"]
        epoch, length = longest_epoch(trials), expected(trials)
        promised = sum(max(epoch, length - trial.seconds) for trial in running)
        # trial-time is seen to pass only when an epoch is reported: by then its trial is in the next
        kinds = (
            ("hours", budget.hours, self.wall, 0.0, epoch),
            ("trial_hours", budget.trial_hours, trial_seconds(trials), promised, epoch * (len(running) + 1)),
        )
        return [Spending(name, limit * HOUR, *rest) for name, limit, *rest in kinds if limit is not None]

    def fits(self) -> bool:
        """Whether another trial may begin; the first refusal is remembered in words."""
        length = expected(self._search.trials)
        return self._noted(one for one in self.spendings() if not one.fits(length))

    def is_open(self) -> bool:
        """Whether the running trials may begin another epoch."""
        return self._noted(one for one in self.spendings() if one.is_closing)

    def is_over(self) -> bool:
        """Whether the search has to stop now, in the middle of an epoch."""
        return not self._noted(one for one in self.spendings() if one.is_over)

    def _noted(self, against: Iterator[Spending]) -> bool:
        one = next(against, None)
        if one is not None and self.refused is None:
            self.refused = (
                f"budget: {one.spent / HOUR:.3g} of {one.limit / HOUR:.3g} {one.name} spent, "
                f"a trial takes about {expected(self._search.trials) / HOUR:.2g}: no more trials begin"
            )
        return one is None


def expected(trials: Iterable[Trial]) -> float:
    """Seconds that a trial takes: all time spent over the number of trials that have ended.

    1. While none has ended, the running one that will take longest at its own pace says how long; 0 before any epoch.
    """
    begun = [trial for trial in trials if trial.seconds]
    ended = sum(trial.state != "RUNNING" for trial in begun)
    if ended:
        return trial_seconds(begun) / ended
    return max((trial.seconds / len(trial.elbo) * epochs(trial) for trial in begun if trial.config), default=0.0)


def epochs(trial: Trial) -> int:
    """Epochs of a trial, at most."""
    return int(trial.config["training"]["epochs"])


def trial_seconds(trials: Iterable[Trial]) -> float:
    """Seconds of all recorded epochs."""
    return sum(trial.seconds for trial in trials)


def longest_epoch(trials: Iterable[Trial]) -> float:
    """Seconds of an epoch of the slowest trial, its mean; 0 before any epoch."""
    return max((trial.seconds / len(trial.elbo) for trial in trials if trial.elbo), default=0.0)


def driven(events: Iterable[Mapping[str, Any]]) -> float:
    """Seconds of wall clock for which a driver was at work.

    1. A session begins at its `study` event and ends at its last event that only a driver writes.
    2. A clock that was set back counts as standing still.

    >>> driven([{"event": "study", "time": 10.0}, {"event": "report", "time": 30.0},
    ...         {"event": "study", "time": 500.0}, {"event": "start", "time": 501.5}])
    21.5
    """
    total, last = 0.0, None
    for event in events:
        at = float(event["time"])
        if event["event"] == "study":
            last = at
        elif event["event"] in DRIVEN and last is not None:
            total, last = total + max(at - last, 0.0), at
    return total
