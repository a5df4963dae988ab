"""A row per configuration: what its replicates measured at the epoch that validation chose.

A configuration is a set of parameters without the seed; its trials are replicates. Only COMPLETE trials are averaged,
because a pruned one was stopped for being bad or early, and its last value is of another epoch.

1. The best epoch of a trial is the one with the highest validation ELBO; values are read from the asked split at it.
2. A replicate without a reading there is left out of the mean, and its row says so.
3. Not-a-number and infinite values are never part of a mean.
4. The error is the standard error of the mean over seeds, divisor n - 1; one seed has none.
5. Configurations with a COMPLETE trial are ranked by their mean validation ELBO, best first; equals in order of trial.
6. The seconds are those of all its trials, stopped ones too: what the row cost.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowsearch.report.labels import distinct
from flowsearch.results import Study, Trial

COLLAPSED_KL = 0.1
"""Nats per document: below this the posterior says nothing about its document."""

METRICS = ("elbo", "kl", "ppl", "active_units", "mutual_information", "iw_nll", "iw_samples", "gap", "entropy")


@dataclass(frozen=True)
class Estimate:
    """A mean over replicates.

    Args:
        mean: of `count` values.
        error: standard error of the mean; None for one value.
        count: how many values.
    """

    mean: float
    error: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of the finite values and its standard error; None without any.

    >>> estimate([1.0, 3.0, float("nan")])
    Estimate(mean=2.0, error=1.0, count=2)
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    error = statistics.stdev(finite) / math.sqrt(len(finite)) if len(finite) > 1 else None
    return Estimate(statistics.fmean(finite), error, len(finite))


@dataclass(frozen=True)
class Configuration:
    """The replicates of one set of parameters.

    Args:
        label: its name, told apart from every other of the study.
        params: dotted name to value, without the seed.
        trials: its replicates, by number.
        values: metric name to its mean over the COMPLETE ones, on the asked split.
        validation: mean validation ELBO of the COMPLETE ones; None without any.
        absent: how many COMPLETE ones have no reading on the asked split at their best epoch.
        collapsed: whether a COMPLETE one has no active unit, or a KL below `COLLAPSED_KL`.
    """

    label: str
    params: Mapping[str, Any]
    trials: tuple[Trial, ...]
    values: Mapping[str, Estimate]
    validation: float | None
    absent: int
    collapsed: bool

    @property
    def complete(self) -> int:
        """How many replicates are COMPLETE."""
        return sum(trial.state == "COMPLETE" for trial in self.trials)

    @property
    def seconds(self) -> float | None:
        """Wall time of all its trials; None if no trial says."""
        known = [trial.seconds for trial in self.trials if trial.seconds is not None]
        return math.fsum(known) if known else None

    @property
    def outcome(self) -> str:
        """The states of its trials, with the reasons of those that stopped early.

        >>> Configuration("", {}, (Trial(0, "PRUNED", "collapsed"), Trial(1, "FAIL")), {}, None, 0, False).outcome
        'PRUNED, FAIL: collapsed'
        """
        states = Counter(trial.state for trial in self.trials)
        counted = ", ".join(f"{count} {state}" if count > 1 else state for state, count in states.items())
        reasons = dict.fromkeys(trial.reason for trial in self.trials if trial.reason)
        return f"{counted}: {'; '.join(reasons)}" if reasons else counted


def is_collapsed(values: Mapping[str, float]) -> bool:
    """Whether a reading shows a posterior that ignores its document.

    >>> is_collapsed({"kl": 0.003}), is_collapsed({"kl": 2.0, "active_units": 0.0}), is_collapsed({})
    (True, True, False)
    """
    return values.get("active_units") == 0 or values.get("kl", math.inf) < COLLAPSED_KL


def configurations(study: Study, split: str) -> list[Configuration]:
    """The configurations of a study: ranked ones first, best first, then the others in order of trial."""
    groups: dict[tuple[tuple[str, Any], ...], list[Trial]] = {}
    for trial in study.trials.values():
        groups.setdefault(tuple(trial.params.items()), []).append(trial)
    labels = distinct([_label(trials) for trials in groups.values()], [dict(identity) for identity in groups])
    readings = study.metrics.at(study.best_epochs, split)
    validation = readings if split == "valid" else study.metrics.at(study.best_epochs, "valid")
    found = [
        _configuration(label, trials, readings, validation)
        for label, trials in zip(labels, groups.values(), strict=True)
    ]
    return sorted(found, key=_rank)


def _configuration(
    label: str,
    trials: Sequence[Trial],
    readings: Mapping[int, Mapping[str, float]],
    validation: Mapping[int, Mapping[str, float]],
) -> Configuration:
    complete = [trial.number for trial in trials if trial.state == "COMPLETE"]
    measured = [readings[number] for number in complete if number in readings]
    values = {name: estimate([reading[name] for reading in measured if name in reading]) for name in METRICS}
    elbo = estimate([validation[number].get("elbo", math.nan) for number in complete if number in validation])
    return Configuration(
        label,
        trials[0].params,
        tuple(trials),
        {name: value for name, value in values.items() if value is not None},
        elbo.mean if elbo else None,
        len(complete) - len(measured),
        any(map(is_collapsed, measured)),
    )


def _label(trials: Sequence[Trial]) -> str:
    return trials[0].label or f"trial {trials[0].number}"


def _rank(configuration: Configuration) -> tuple[bool, float]:
    """Ranked ones first; sorting is stable, which keeps equals in order of trial."""
    validation = configuration.validation
    return configuration.complete == 0, math.inf if validation is None else -validation


@dataclass(frozen=True)
class Group:
    """The configurations that share the values of some parameters.

    Args:
        values: of those parameters, in the order asked; None where a configuration has no such parameter.
        best: the one whose mean validation ELBO is highest; None if none is COMPLETE.
        complete: how many have a COMPLETE trial.
        total: how many there are.
    """

    values: tuple[Any, ...]
    best: Configuration | None
    complete: int
    total: int


def groups(ranked: Sequence[Configuration], names: Sequence[str]) -> list[Group]:
    """Configurations by the values of the parameters `names`, in the order of those values, absent ones first."""
    found: dict[tuple[Any, ...], list[Configuration]] = {}
    for configuration in ranked:
        found.setdefault(tuple(configuration.params.get(name) for name in names), []).append(configuration)
    result = []
    for values, members in found.items():
        complete = [member for member in members if member.complete]
        result.append(Group(values, complete[0] if complete else None, len(complete), len(members)))
    return sorted(result, key=lambda group: [_natural(value) for value in group.values])


def _natural(value: Any) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    return (2, 0.0, value) if isinstance(value, str) else (1, float(value), "")


def clear_best(candidates: Sequence[Configuration]) -> Configuration | None:
    """The configuration whose -ELBO is best beyond the noise, if one is.

    1. With fewer than two configurations there is nothing to be better than.
    2. Best and runner-up need at least two seeds each: one seed cannot rank.
    3. They must differ by more than two combined standard errors.
    """
    measured = [candidate for candidate in candidates if "elbo" in candidate.values]
    order = sorted(measured, key=lambda candidate: -candidate.values["elbo"].mean)[:2]
    errors = [candidate.values["elbo"].error for candidate in order]
    if len(order) < 2 or errors[0] is None or errors[1] is None:
        return None
    difference = order[0].values["elbo"].mean - order[1].values["elbo"].mean
    return order[0] if difference > 2 * math.hypot(errors[0], errors[1]) else None
