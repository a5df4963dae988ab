"""What a study took, what pruning saved of it, and what the whole grid would have taken: all in time of one trial.

A trial-hour is an hour of one trial training and being measured, whatever ran beside it. Only recorded epochs count.

1. A trial is taken to have as many epochs as it was given, where that is a parameter; otherwise as the COMPLETE trials
   of the study had in the mean, since a trial may end early by itself.
2. What pruning saved is an estimate: each pruned trial's own mean seconds per epoch, times the epochs it was spared.
3. The grid is estimated from what each trial would have taken to its end, the mean over those that are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from flowsearch.results import Study, Trial

EPOCHS = "training.epochs"
HOUR = 3600.0


@dataclass(frozen=True)
class Effort:
    """Trial-seconds.

    Args:
        used: of all recorded epochs.
        saved: by pruning; None where no trial is complete, so that nobody knows how long one is.
        grid: of every point of the space, each trained to its end with every seed; None where there are no such points,
            or nobody knows how long a trial is.
        points: trials of the grid, if there is one.
    """

    used: float
    saved: float | None = None
    grid: float | None = None
    points: int | None = None


def effort(study: Study) -> Effort:
    """What a study took.

    Args:
        study: with the metric `seconds`, without which trials that have not ended count as nothing.
    """
    epochs = study.metrics.last_epochs()
    taken = {number: seconds(study, trial) for number, trial in study.trials.items()}
    complete = [epochs[n] for n, trial in study.trials.items() if trial.state == "COMPLETE" and n in epochs]
    points = study.facts.get("grid_trials")
    known = Effort(sum(taken.values()), points=points if isinstance(points, int) else None)
    if not complete:
        return known
    usual = fmean(complete)
    spared, whole = 0.0, []
    for number, trial in study.trials.items():
        if number not in epochs or trial.state not in ("COMPLETE", "PRUNED"):
            continue
        left = max(length(trial, usual) - epochs[number], 0.0) if trial.state == "PRUNED" else 0.0
        more = taken[number] / epochs[number] * left
        spared += more
        whole.append(taken[number] + more)
    return Effort(known.used, spared, None if known.points is None else known.points * fmean(whole), known.points)


def length(trial: Trial, usual: float) -> float:
    """Epochs that a trial would have."""
    given = trial.params.get(EPOCHS)
    return float(given) if isinstance(given, int | float) else usual


def seconds(study: Study, trial: Trial) -> float:
    """Seconds of a trial's recorded epochs: its own sum once it has ended, and the sum of its readings until then."""
    if trial.seconds is not None:
        return trial.seconds
    metrics = study.metrics
    rows = metrics.trial == trial.number
    return float(np.nansum(metrics.values["seconds"][rows])) if "seconds" in metrics.values else 0.0


def sentence(study: Study) -> str:
    """The effort in words; nothing where no time was recorded."""
    found = effort(study)
    if not found.used:
        return ""
    parts = [f"Cost: {hours(found.used)} trial-hours used"]
    parts += [f"about {hours(found.saved)} saved by pruning"] if found.saved else []
    parts += [f"the full grid of {found.points} trials: about {hours(found.grid)}"] if found.grid else []
    return "; ".join(parts) + "."


def budget(facts: Mapping[str, Any]) -> str:
    """The study's budget in words; nothing without one.

    >>> budget({"budget": {"hours": 20.0, "trial_hours": None}}), budget({})
    ('Budget: 20 hours.', '')
    """
    given = facts.get("budget")
    limits = given.items() if isinstance(given, dict) else ()
    said = [f"{value:g} {str(name).replace('_', '-')}" for name, value in limits if isinstance(value, int | float)]
    return f"Budget: {', '.join(said)}." if said else ""


def hours(trial_seconds: float) -> str:
    """Hours, to three digits.

    >>> hours(3600 * 12.345), hours(36)
    ('12.3', '0.01')
    """
    return f"{trial_seconds / HOUR:.3g}"
