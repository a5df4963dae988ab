"""What each row cost to train, relative to the plain VAE of the same study, as in the thesis' Table 2.2.

Times of one study come from one kind of machine and one corpus, so their ratio means more than they do. What no machine
changes is the number of encoder steps: the outer ones, one per batch, and the inner ones of lagging inference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowsearch.errors import BadInput, nearest
from flowsearch.report import caption
from flowsearch.report.marks import model, seeds
from flowsearch.report.rows import Configuration, Estimate, configurations, estimate
from flowsearch.report.tables import Cell, Column, Table, decimals, number
from flowsearch.results import SPLITS, Study

PLAIN = "VAE"
"""The row that the others are relative to, unless another is asked for."""

METRICS = ("seconds", "steps", "inner_steps")


@dataclass(frozen=True)
class Cost:
    """What a row took, means over its COMPLETE replicates.

    Args:
        row: whose it is.
        per_epoch: seconds of training per epoch.
        to_best: seconds of training until the end of the best epoch.
        epochs: until then.
        encoder_steps: until then; None for a model without z, which has no encoder.
    """

    row: Configuration
    per_epoch: Estimate | None
    to_best: Estimate | None
    epochs: Estimate | None
    encoder_steps: Estimate | None


def ratio(mine: Estimate | None, base: Estimate | None) -> Estimate | None:
    """The ratio of two independent means, its standard error to first order; None without both.

    >>> ratio(Estimate(6.0, 0.3, 3), Estimate(2.0, 0.0, 3))
    Estimate(mean=3.0, error=0.15, count=3)
    """
    if mine is None or base is None or not base.mean:
        return None
    mean = mine.mean / base.mean
    if mine.error is None or base.error is None or not mine.mean:
        return Estimate(mean, None, mine.count)
    error = mean * math.hypot(mine.error / mine.mean, base.error / base.mean)
    return Estimate(mean, error, mine.count)


def cost(study: Study, row: Configuration) -> Cost:
    """What a row took.

    1. Only training is counted: measuring and compiling are outside of a reading's seconds.
    2. A replicate without a reading of every epoch to its best is left out of what counts to the best.
    """
    trials = [trial for trial in row.measured if trial.best_epoch is not None]
    encoding = trials if "kl" in row.values else []
    seconds, steps = (_per_epoch(study, names) for names in (("seconds",), ("steps", "inner_steps")))
    epochs = {trial.number: trial.best_epoch or 0 for trial in trials}
    return Cost(
        row,
        estimate([float(np.mean(found)) for trial in trials if (found := list(seconds(trial.number).values()))]),
        estimate([_until(epochs[trial.number], seconds(trial.number)) for trial in trials]),
        estimate([float(epoch) for epoch in epochs.values()]),
        estimate([_until(epochs[trial.number], steps(trial.number)) for trial in encoding]),
    )


def times_table(study: Study, *, baseline: str | None = None) -> Table:
    """The table of training times.

    Args:
        study: as `load` gives it.
        baseline: name of the row that the others are relative to; None means `VAE`, if there is one.

    Raises:
        BadInput: no complete row is called `baseline`.
    """
    costs = [cost(study, row) for row in configurations(study, "valid") if row.complete]
    named = {name: found for found in costs for name in (found.row.label, found.row.name)}
    if baseline is not None and baseline not in named:
        raise BadInput(f"--baseline: no complete row '{baseline}' in {study.name}{nearest(baseline, named)}")
    base = named.get(baseline or PLAIN)
    wall = [found.per_epoch for found in costs], [found.to_best for found in costs]
    steps = [found.encoder_steps for found in costs]
    of_base = None if base is None else costs.index(base)
    columns: list[tuple[Column, Sequence[Cell]]] = [
        (Column("model", "Model", align="left"), [model(found.row) for found in costs]),
        _means("seconds_per_epoch", "Epoch", "s", wall[0]),
        _means("epoch_ratio", "Epoch, relative", "", _relative(wall[0], of_base)),
        _means("epochs", "Epochs to best", "", [found.epochs for found in costs], least=0),
        _means("seconds_to_best", "To best", "s", wall[1], least=0),
        _means("best_ratio", "To best, relative", "", _relative(wall[1], of_base)),
        _means("encoder_steps", "Encoder steps", "to best", steps, least=0),
        _means("steps_ratio", "Steps, relative", "", _relative(steps, of_base)),
        (Column("seeds", "Seeds"), [seeds(found.row) for found in costs]),
    ]
    return Table(
        study.name,
        tuple(column for column, _ in columns),
        tuple(zip(*(cells for _, cells in columns), strict=True)),
        _caption(study, costs, base, baseline),
    )


def _per_epoch(study: Study, names: Sequence[str]) -> Callable[[int], dict[int, float]]:
    """Of a trial, the sum of some train metrics in each epoch that has all of them."""
    metrics = study.metrics
    is_there = metrics.split == SPLITS.index("train")
    total = np.zeros(len(metrics))
    for name in names:
        is_there = is_there & metrics.known.get(name, np.zeros(len(metrics), dtype=bool))
        total = total + metrics.values.get(name, np.zeros(len(metrics)))

    def of(trial: int) -> dict[int, float]:
        rows = is_there & (metrics.trial == trial)
        return dict(zip(metrics.epoch[rows].tolist(), total[rows].tolist(), strict=True))

    return of


def _until(best: int, by_epoch: dict[int, float]) -> float:
    """The sum over epochs 1 to `best`; NaN if one is missing."""
    return math.fsum(by_epoch.get(epoch, math.nan) for epoch in range(1, best + 1))


def _relative(found: Sequence[Estimate | None], base: int | None) -> list[Estimate | None]:
    """Each over the one at `base`, which is 1 itself; None without a base."""
    if base is None:
        return [None] * len(found)
    itself = Estimate(1.0, None, 1) if found[base] else None
    return [itself if place == base else ratio(one, found[base]) for place, one in enumerate(found)]


def _means(
    key: str, name: str, unit: str, found: Sequence[Estimate | None], *, least: int = 2
) -> tuple[Column, list[Cell]]:
    places = decimals([one.error for one in found if one], least=least, most=max(least, 2))
    cells = [number(one.mean, places, one.error) if one else number(None, places) for one in found]
    return Column(key, name, unit, has_error=True), cells


def _caption(study: Study, costs: Sequence[Cost], base: Cost | None, baseline: str | None) -> tuple[str, ...]:
    where = study.facts.get("platform", "a machine that the study does not name")
    relative = (
        f"Relative: over the mean of row {base.row.label}, which is 1; ± combines both rows' standard errors."
        if base
        else f"No complete row {baseline or PLAIN} to be relative to; --baseline names another."
    )
    steps = (
        "Encoder steps: one per batch and those of lagging inference's inner loop, every one counted; steps that "
        "refine a document's posterior are none."
    )
    return (
        caption.data(study, "train"),
        f"Seconds: wall time of training alone, without measuring, on {where}. Whether the machine was shared is not "
        "known, so trust ratios and steps before seconds.",
        "To best: until the end of the epoch that validation chose. ± is the standard error of the mean over seeds.",
        relative,
        steps if any(found.encoder_steps for found in costs) else f"{steps} This study did not record them.",
        *caption.incomplete(study),
    )
