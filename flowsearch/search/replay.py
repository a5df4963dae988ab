"""Replay: another pruner, tried on the curves that a study has recorded; no GPU, no Ray, no model.

    flowsearch replay iaf --pruner '{ASHA: {reduction_factor: 2}}' --pruner '{ASHA: {resource: seconds}}'

What a pruner stops depends on the order in which trials arrive, so every pruner is replayed over the same random orders
(as Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, repeat whole searches): how much it
would have saved, and what it would have lost.

1. COMPLETE trials of the search enter, with their whole curves. What is confirmed is never pruned, and does not enter.
2. With `everything`, trials that were stopped enter too, up to where they were stopped: they meet the others at the
   rungs that they reached and cost what was recorded. What they would have become is not known, so none of them is the
   winner, none counts for regret, and none counts as collapsed or not.
3. An order in which no COMPLETE trial is left counts the best ELBO that was seen before the stops.
4. A replay of curves that were recorded under a pruner knows only what that pruner let live.
5. A trial whose start the journal has lost does not enter: its parameters, and with them its warm-up, are not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import PydanticCustomError

from flowsearch.errors import BadInput, StudyError
from flowsearch.results import Trial, find, fold, read
from flowsearch.results.store import JOURNAL
from flowsearch.search import bounded
from flowsearch.search.pruning import PRUNERS, Curve, is_collapsed, stops
from flowsearch.training.component import Component, In

WARMUP = "objective.warmup_epochs"


@dataclass(frozen=True)
class Recorded:
    """What a study holds of one trial.

    Args:
        number: of the trial.
        curve: as far as it went.
        is_whole: whether it went to its end.
        is_collapsed: whether it ignored its documents at its best epoch.
    """

    number: int
    curve: Curve
    is_whole: bool
    is_collapsed: bool

    @property
    def best(self) -> float:
        """The best validation ELBO, nats per document."""
        return max(filter(math.isfinite, self.curve.elbo), default=-math.inf)


class Replayed(NamedTuple):
    """What replays came to.

    Args:
        rows: one per pruner, by the names of `flowsearch.report.replays`; None where there is no value.
        caption: how much was replayed, and what the numbers are not.
        notes: what is wrong with the study's files.
    """

    rows: list[dict[str, Any]]
    caption: tuple[str, ...]
    notes: list[str]


class Outcome(NamedTuple):
    """What a pruner would have done in one order.

    Args:
        epochs: trained.
        seconds: spent.
        regret: the best ELBO of all minus the best that is left, nats per document.
        killed: numbers of the trials stopped.
    """

    epochs: int
    seconds: float
    regret: float
    killed: frozenset[int]


def replay(
    results: Path,
    study: str,
    pruners: Sequence[str] = ("ASHA",),
    *,
    orders: int = 100,
    workers: int = 4,
    seed: int = 0,
    everything: bool = False,
) -> Replayed:
    """No pruner, then each pruner, over the same orders.

    Args:
        results: the folder of studies.
        study: its name.
        pruners: as in a space file, each in YAML.
        orders: of arrival.
        workers: trials that run at a time.
        seed: of the orders.
        everything: whether stopped trials enter, too.

    Raises:
        StudyError: no such study, or nothing in it to replay.
        BadInput: a pruner that is none.
    """
    rules = [(text, parsed(text)) for text in pruners]
    folder = find(results, study)
    curves, notes = recorded(folder, everything=everything)
    if not any(one.is_whole for one in curves):
        raise StudyError(f"{folder}: no trial of the search is COMPLETE; a replay needs whole curves")
    drawn = [list(map(int, order)) for order in permutations(len(curves), orders, seed)]
    rows = [row("none", curves, [outcome(curves, order, [None] * len(curves)) for order in drawn])]
    longest = max(one.curve.warmup_epochs for one in curves)
    for text, component in rules:
        found = []
        for order in drawn:
            stopped = stops(
                component.build(PRUNERS, longest), [curves[place].curve for place in order], workers=workers
            )
            found.append(outcome(curves, order, stopped))
        rows.append(row(text, curves, found))
    return Replayed(rows, caption(curves, orders, workers), notes)


def parsed(text: str) -> Component:
    """The pruner that YAML names.

    Raises:
        BadInput: it names none, or has no such knob.

    >>> parsed("{ASHA: {resource: seconds}}").knobs["resource"]
    'seconds'
    """
    try:
        return In(PRUNERS).parse(bounded.parse(text, "--pruner"))
    except PydanticCustomError as error:
        context = error.context or {}
        path = "".join(f" {part}:" for part in context.get("path", ()))
        value = f" {context['value']!r:.80};" if "value" in context else ""
        raise BadInput(f"--pruner:{path}{value} {context['problem']}") from error


def recorded(folder: Path, *, everything: bool) -> tuple[list[Recorded], list[str]]:
    """The curves of a study's search, in order of trial, and what is wrong with its files."""
    if not (folder / JOURNAL).exists():
        raise StudyError(f"{folder}: no {JOURNAL}; a replay needs it")
    done, tree = read(folder / JOURNAL), bounded.read(folder / "space.yaml")
    tables, seconds = fold(done.events), epoch_seconds(done.events)
    states = ("COMPLETE", "PRUNED") if everything else ("COMPLETE",)
    started = {event.get("trial") for event in done.events if event["event"] == "start"}
    epochs: dict[int, list[int]] = {}
    for number, epoch, split in sorted(tables.readings):
        if split == "valid":
            epochs.setdefault(number, []).append(epoch)
    found = []
    for trial in tables.trials.values():
        enters = trial.state in states and trial.phase == "search" and trial.number in started
        if enters and trial.number in epochs:
            rows = [tables.readings[trial.number, epoch, "valid"] for epoch in epochs[trial.number]]
            times = [seconds.get((trial.number, epoch), 0.0) for epoch in epochs[trial.number]]
            found.append(_recorded(trial, rows, times, warmup(trial.params, tree)))
    damage = [f"{folder / JOURNAL}: {len(done.damaged)} damaged line(s) skipped"] if done.damaged else []
    return found, damage


def _recorded(trial: Trial, rows: Sequence[Mapping[str, float]], times: Sequence[float], epochs: int) -> Recorded:
    curve = Curve([row["elbo"] for row in rows], epochs, times)
    at_best = max(rows, key=lambda row: row["elbo"] if math.isfinite(row["elbo"]) else -math.inf)
    return Recorded(trial.number, curve, trial.state == "COMPLETE", is_collapsed(at_best))


def epoch_seconds(events: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], float]:
    """Wall time of each (trial, epoch), as the pruner saw it."""
    return {
        (event["trial"], event["epoch"]): float(event.get("seconds", 0.0))
        for event in events
        if event["event"] == "report" and any(reading["split"] == "valid" for reading in event["readings"])
    }


def warmup(params: Mapping[str, Any], tree: Mapping[str, Any]) -> int:
    """Epochs of a trial's warm-up: drawn, of its named row, or the space's own.

    >>> tree = {"objective": {"warmup_epochs": 3}, "search": {"rows": {"A": {"objective.warmup_epochs": 10}}}}
    >>> warmup({"objective.warmup_epochs": 2}, tree), warmup({"row": "A"}, tree), warmup({}, tree)
    (2, 10, 3)
    """
    if WARMUP in params:
        return int(params[WARMUP])
    row = tree["search"].get("rows", {}).get(params.get("row"), {})
    return int(row.get(WARMUP, tree["objective"]["warmup_epochs"]))


def permutations(count: int, orders: int, seed: int) -> list[Any]:
    """Random orders, the same for every pruner."""
    generator = np.random.default_rng(seed)
    return [generator.permutation(count) for _ in range(orders)]


def outcome(curves: Sequence[Recorded], order: Sequence[int], stopped: Sequence[int | None]) -> Outcome:
    """What stopping the trials at these epochs would have done.

    Args:
        curves: in order of trial.
        order: positions in `curves`, by arrival.
        stopped: the epoch at which each was stopped, by arrival; None where it was not.
    """
    arrived = [curves[place] for place in order]
    lengths = [len(one.curve.elbo) if stop is None else stop for one, stop in zip(arrived, stopped, strict=True)]
    seconds = math.fsum(sum(one.curve.times[:length]) for one, length in zip(arrived, lengths, strict=True))
    killed = frozenset(one.number for one, stop in zip(arrived, stopped, strict=True) if stop is not None)
    left = [one.best for one in curves if one.is_whole and one.number not in killed]
    seen = [max(one.curve.elbo[:length]) for one, length in zip(arrived, lengths, strict=True) if one.is_whole]
    regret = winner(curves).best - max(left or seen)
    return Outcome(sum(lengths), seconds, max(regret, 0.0), killed)


def winner(curves: Sequence[Recorded]) -> Recorded:
    """The whole curve with the best ELBO, the first of equals."""
    return max((one for one in curves if one.is_whole), key=lambda one: one.best)


def row(name: str, curves: Sequence[Recorded], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The row of a pruner: means over orders."""
    epochs = sum(len(one.curve.elbo) for one in curves)
    seconds = math.fsum(sum(one.curve.times) for one in curves)
    best = winner(curves).number
    regrets = [one.regret for one in outcomes]
    known = {one.number: one.is_collapsed for one in curves if one.is_whole}
    killed = [known[trial] for one in outcomes for trial in one.killed if trial in known]
    left = [known[trial] for one in outcomes for trial in known if trial not in one.killed]
    return {
        "pruner": name,
        "epochs_saved": 100 * (1 - fmean(one.epochs for one in outcomes) / epochs),
        "seconds_saved": 100 * (1 - fmean(one.seconds for one in outcomes) / seconds) if seconds else None,
        "regret": fmean(regrets),
        "regret_stderr": stdev(regrets) / math.sqrt(len(regrets)) if len(regrets) > 1 else None,
        "regret_worst": max(regrets),
        "winner_killed": 100 * fmean(best in one.killed for one in outcomes),
        "killed": fmean(len(one.killed) for one in outcomes),
        "collapsed_killed": 100 * fmean(killed) if killed else None,
        "collapsed_left": 100 * fmean(left) if left else None,
    }


def caption(curves: Sequence[Recorded], orders: int, workers: int) -> tuple[str, ...]:
    """How much was replayed, and what the numbers are not."""
    whole = sum(one.is_whole for one in curves)
    best = winner(curves)
    cut = f", and {len(curves) - whole} that were stopped, as far as they went" if whole < len(curves) else ""
    return (
        f"Replayed: {whole} COMPLETE trials of the search{cut}, in {orders} random orders, {workers} at a time.",
        f"Winner: trial {best.number}, best validation -ELBO {-best.best:.2f} nats/doc. Regret: the best validation "
        "ELBO of all minus the best left; ± is the standard error over orders, not over other studies.",
        "Collapsed: no active unit or no KL at the best epoch, of COMPLETE trials killed and left.",
        "Curves recorded under a pruner show only what it let live.",
    )
