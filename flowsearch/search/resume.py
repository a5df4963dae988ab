"""Resume: the journal replayed onto a fresh search, which then stands where the old one stood.

The sampler is run again on the same history, so that its random numbers, its position in a sequence and its
population are those of the interrupted search. If that does not give the recorded parameters (another version of
Optuna, another order of things), the recorded parameters are taken as they are and the sampler goes on from a seed of
its own: never from the seed it began with, which would draw the same configurations again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowsearch.errors import SpaceError
from flowsearch.search.asktell import CONFIRM, SEARCH, AskTell, Trial, Verdict
from flowsearch.search.space import Space, rebuild
from flowsearch.search.task import as_readings

Event = Mapping[str, Any]

OF_TRIALS = ("start", "report", "finish", "lost")
"""Events that are of one trial each."""

LOST = Verdict("FAIL", "its start was lost from the journal")


class Differs(Exception):
    """The sampler, run again, drew something other than what was recorded."""


def sampler_seed(space: Space) -> int:
    """The seed of a study's sampler: that of its trials."""
    return int(space.tree["seed"])


def replay(space: Space, events: Iterable[Event]) -> tuple[AskTell, dict[int, Verdict]]:
    """The search that a journal tells of.

    Args:
        space: the study's, its number of trials perhaps raised since.
        events: of the journal, in order.

    Returns:
        The search, and the verdicts on trials that were to stop, or cannot go on, but whose finish did not reach the
        journal.
    """
    events = list(events)
    seed = sampler_seed(space)
    try:
        return _replayed(AskTell(space, seed), events, _redraw)
    except Differs:
        started = sum(event["event"] == "start" for event in events)
        fresh = int(np.random.SeedSequence([seed, started]).generate_state(1)[0])
        return _replayed(AskTell(space, fresh), events, _take)


def unfinished(search: AskTell) -> list[int]:
    """The trials that were handed out and have not ended."""
    return [trial.number for trial in search.trials if trial.state == "RUNNING"]


Start = Callable[[AskTell, Event], None]


def _redraw(search: AskTell, event: Event) -> None:
    trial = search.ask()
    if trial is None or trial.phase != SEARCH or dict(trial.params) != dict(event["params"]):
        raise Differs


def _take(search: AskTell, event: Event) -> None:
    try:
        rebuild(search.space, event["params"])
    except SpaceError:
        search.keep(event["params"], int(event.get("seed", 0)))
    else:
        search.ask(event["params"])


def _begin(search: AskTell, event: Event | None, start: Start) -> None:
    """The next trial, by its start line; None where that was lost, which was one of the search if that was not over."""
    if event is None and len(search.of(SEARCH)) < search.searching:
        start(search, {"params": {}})
    elif event is None:
        search.confirm({}, 0)
    elif event.get("phase") == CONFIRM:
        search.confirm(event["params"], int(event["seed"]))
    else:
        start(search, event)


def _replayed(search: AskTell, events: Sequence[Event], start: Start) -> tuple[AskTell, dict[int, Verdict]]:
    """1. A trial whose start line was damaged is a FAIL, so that the numbers after it stay what they are. Any event of
    it keeps its number from being handed out again; what it measured stays on record.
    2. If it was handed out a second time, that start says what it is.
    3. What was to be confirmed is taken as it is recorded: a later choice may differ.
    4. Trials that the space no longer has, because it was changed on purpose, keep what they measured.
    """
    verdicts: dict[int, Verdict] = {}
    starts = {event["trial"]: event for event in reversed(events) if event["event"] == "start"}
    for event in events:
        kind, number = event["event"], event.get("trial", -1)
        if kind not in OF_TRIALS:
            continue
        for begun in range(len(search.trials), number + 1):
            _begin(search, starts.get(begun), start)
            if begun not in starts:
                verdicts[begun] = LOST
        if kind == "start":
            _as_recorded(search.trials[number], event)
        elif search.trials[number].state != "RUNNING":
            continue
        elif kind == "report":
            readings = as_readings(event["readings"], event["epoch"])
            verdict = search.report(number, event["epoch"], readings, float(event.get("seconds", 0)))
            if verdict:
                verdicts.setdefault(number, verdict)
        elif kind == "finish":
            verdicts.pop(number, None)
            search.finish(number, Verdict(event["state"], event["reason"]) if number in starts else LOST)
    return search, verdicts


def _as_recorded(trial: Trial, event: Event) -> None:
    """What is decided while a trial runs, or by a part of the space that was changed since."""
    trial.attempt, trial.seed = int(event["attempt"]), int(event.get("seed", trial.seed))
    if trial.config:
        trial.config = {**trial.config, "seed": trial.seed}
        if event.get("halved") and not trial.halved:
            trial.halve()
