"""What a study is doing, as far as its journal goes: the view of a second terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowsearch.report import goals
from flowsearch.report.caption import states
from flowsearch.report.effort import budget, sentence
from flowsearch.report.rows import COLLAPSED_KL, is_collapsed
from flowsearch.report.tables import MISSING, Cell, Column, Table, number, text
from flowsearch.results import Study, Trial, load
from flowsearch.results.journal import span
from flowsearch.results.store import JOURNAL

SHOWN = ("elbo", "kl", "active_units", "seconds")


@dataclass(frozen=True)
class Status:
    """A study at a moment.

    Args:
        study: its tables.
        times: of the first and the last event, seconds since 1970; None without events.
    """

    study: Study
    times: tuple[float, float] | None


def status(folder: Path) -> Status:
    """The study in `folder` up to the last finished line of its journal; damage becomes notes."""
    path = folder / JOURNAL
    return Status(load(folder, (*SHOWN, *goals.names(folder))), span(path) if path.exists() else None)


def overview(found: list[Status], now: float) -> Table:
    """A row per study: trials by state, time, and the best so far."""
    columns = ("study", "trials", "elapsed", "last event", "best -ELBO", "best trial")
    rows = []
    for one in found:
        trial, epoch, value = best(one.study)
        elapsed, ago = _times(one, now)
        rows.append(
            (
                text(one.study.name),
                text(states(one.study)),
                text(elapsed),
                text(ago),
                number(value, 2),
                text(_named(trial, epoch)),
            )
        )
    return Table("studies", tuple(Column(name, name, align="left") for name in columns), tuple(rows))


def running(one: Status, now: float) -> Table:
    """A row per running trial at its last epoch; the caption has the trials by state, the time and the best so far."""
    study = one.study
    trials = [trial for trial in study.trials.values() if trial.state == "RUNNING"]
    epochs = study.metrics.last_epochs()
    readings = study.metrics.at({t.number: epochs[t.number] for t in trials if t.number in epochs}, "valid")
    columns = (
        Column("trial", "Trial"),
        Column("model", "Model", align="left"),
        Column("seed", "Seed"),
        Column("epoch", "Epoch"),
        Column("negative_elbo", "-ELBO", "nats/doc"),
        Column("kl", "KL", "nats/doc"),
        Column("active_units", "AU", "dims"),
    )
    rows = tuple(_running_row(trial, epochs.get(trial.number), readings.get(trial.number, {})) for trial in trials)
    return Table(study.name, columns, rows, _caption(one, now, any(row[1].mark for row in rows)))


def best(study: Study) -> tuple[Trial | None, int | None, float | None]:
    """The trial with the highest validation ELBO so far, its epoch, and its -ELBO; of those that break no limit there,
    if there are any, and of those where it is a bound."""
    epochs = study.metrics.best_epochs()
    readings = study.metrics.at(epochs, "valid")
    if not readings:
        return None, None, None
    kept = {trial: values for trial, values in readings.items() if not goals.broken(study.facts, values)} or readings
    bounds = {trial: values for trial, values in kept.items() if values.get("kl_is_bound", 1.0) == 1.0} or kept
    number_ = max(bounds, key=lambda trial: bounds[trial]["elbo"])
    return study.trials[number_], epochs[number_], -readings[number_]["elbo"]


def confirming(study: Study) -> str:
    """How far the trials of phase `confirm` are; nothing where there is none."""
    ended = [trial.state != "RUNNING" for trial in study.trials.values() if trial.phase == "confirm"]
    return f"Phase confirm: {len(ended)} of the trials, {sum(ended)} of them ended." if ended else ""


def duration(seconds: float) -> str:
    """Time in words.

    >>> duration(42), duration(3 * 3600 + 61)
    ('42 s', '3 h 1 min')
    """
    whole = max(int(seconds), 0)
    minutes = whole // 60
    if minutes == 0:
        return f"{whole} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _running_row(trial: Trial, epoch: int | None, values: Mapping[str, float]) -> tuple[Cell, ...]:
    elbo = values.get("elbo")
    return (
        Cell(str(trial.number), trial.number),
        text(trial.label, "†" if is_collapsed(values) else ""),
        text(None) if trial.seed is None else Cell(str(trial.seed), trial.seed),
        text(None) if epoch is None else Cell(str(epoch), epoch),
        number(None if elbo is None else -elbo, 2),
        number(values.get("kl"), 4),
        number(values.get("active_units"), 0),
    )


def _caption(one: Status, now: float, has_collapsed: bool) -> tuple[str, ...]:
    trial, epoch, value = best(one.study)
    elapsed, ago = _times(one, now)
    lines = [
        f"Trials: {states(one.study)}. Elapsed {elapsed}; last event {ago}.",
        confirming(one.study),
        sentence(one.study),
        budget(one.study.facts),
        "" if value is None else f"Best so far: validation -ELBO {value:.2f} nats/doc, {_named(trial, epoch)}.",
        goals.on_front(one.study),
        f"† collapsed: no active unit, or KL below {COLLAPSED_KL} nats." if has_collapsed else "",
        *(f"Incomplete: {note}." for note in one.study.notes),
    ]
    return tuple(line for line in lines if line)


def _named(trial: Trial | None, epoch: int | None) -> str:
    return MISSING if trial is None else f"trial {trial.number} ({trial.label or MISSING}), epoch {epoch}"


def _times(one: Status, now: float) -> tuple[str, str]:
    if one.times is None or not all(map(math.isfinite, one.times)):
        return MISSING, MISSING
    first, last = one.times
    return duration(last - first), f"{duration(now - last)} ago"
