"""A row per configuration: what its replicates measured at the epoch that validation chose.

A configuration is a set of parameters without the seed; its trials are replicates. Only COMPLETE trials are averaged,
because a pruned one was stopped for being bad or early, and its last value is of another epoch.

1. The best epoch of a trial is the one with the highest validation ELBO; values are read from the asked split at it.
2. A replicate without a reading there is left out of the mean, and its row says so.
3. Not-a-number and infinite values are never part of a mean.
4. The error is the standard error of the mean over seeds, divisor n - 1; one seed has none.
5. Configurations with a COMPLETE trial are ranked by their mean validation ELBO, best first; equals in order of trial.
   One that breaks a limit of `search.require` at the best epoch of a replicate comes after all that break none.
   The named rows of a study (`search.rows`) keep their order instead: that of their first trials.
6. The seconds are those of all its trials, stopped ones too: what the row cost.
7. Where trials were run again to confirm a configuration, they alone are its replicates once one is COMPLETE: the
   seeds of the search were chosen for being good, which makes their mean too good.
8. A difference of two metrics is taken within each replicate, then averaged, so that its error is that of the pair.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowsearch.report.goals import broken
from flowsearch.report.labels import distinct
from flowsearch.results import Study, Trial

CONFIRM = "confirm"
"""The phase of a trial that runs a chosen configuration again."""

COLLAPSED_KL = 0.1
"""Nats per document: below this the posterior says nothing about its document."""

ROW = "row"
"""The one parameter of a study of named rows."""

METRICS = (
    *("elbo", "kl", "ppl", "active_units", "mutual_information", "iw_nll", "iw_samples", "gap", "entropy"),
    *("elbo_refined", "kl_refined", "ppl_refined", "active_units_refined"),
    *("mutual_information_refined", "iw_nll_refined"),
    "kl_is_bound",
)
"""What readings hold that a row shows."""

PARTS = ("model_part", "inference_part", "kl_share")
"""What is made of a reading where the corpus is known; see `with_parts`."""


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
        broken: the first limit that a COMPLETE one breaks; None where none does.

    All but `trials` is of the replicates, as `replicates` gives them.
    """

    label: str
    params: Mapping[str, Any]
    trials: tuple[Trial, ...]
    values: Mapping[str, Estimate]
    validation: float | None
    absent: int
    collapsed: bool
    broken: str | None = None

    @property
    def name(self) -> str:
        """The name of its row where the study has named rows, else its label."""
        return str(self.params.get(ROW, self.label))

    @property
    def confirmed(self) -> bool:
        """Whether the replicates are fresh trials, run after the search chose the configuration."""
        return is_confirmed(self.trials)

    @property
    def replicates(self) -> tuple[Trial, ...]:
        """The trials that speak for it."""
        return replicates(self.trials)

    @property
    def measured(self) -> tuple[Trial, ...]:
        """The replicates that are COMPLETE."""
        return tuple(trial for trial in self.replicates if trial.state == "COMPLETE")

    @property
    def complete(self) -> int:
        """How many replicates are COMPLETE."""
        return len(self.measured)

    @property
    def is_bound(self) -> bool:
        """Whether its -ELBO bounds -log p(x): not so where the KL is itself an estimate from below."""
        return "kl_is_bound" not in self.values or self.values["kl_is_bound"].mean == 1

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


def with_parts(values: Mapping[str, float], information: float | None) -> dict[str, float]:
    """A reading and what follows from it where the truth is known, nats per document.

    `model_part`, IW-NLL - true NLL, and `inference_part`, -ELBO - IW-NLL, sum to the gap (Cremer, Li, Duvenaud,
    "Inference suboptimality in variational autoencoders", 2018); IW-NLL bounds -log p(x) from
    above, so the first is at most too large and the second too small by the same amount. `kl_share` is KL over I(X;Z).

    Args:
        values: a reading.
        information: I(X;Z) of the source, nats per document; None where it is not known.

    >>> with_parts({"elbo": -38.0, "kl": 1.5, "iw_nll": 37.5, "entropy": 35.0}, 3.0)
    {'elbo': -38.0, 'kl': 1.5, 'iw_nll': 37.5, 'entropy': 35.0,
     'model_part': 2.5, 'inference_part': 0.5, 'kl_share': 0.5}
    """
    result = dict(values)
    if {"elbo", "iw_nll", "entropy"} <= values.keys():
        result["model_part"] = values["iw_nll"] - values["entropy"]
        result["inference_part"] = -values["elbo"] - values["iw_nll"]
    if information and "kl" in values:
        result["kl_share"] = values["kl"] / information
    return result


def is_confirmed(trials: Sequence[Trial]) -> bool:
    """Whether a trial that confirms is COMPLETE."""
    return any(confirms(trial) and trial.state == "COMPLETE" for trial in trials)


def confirms(trial: Trial) -> bool:
    """Whether a trial runs a chosen configuration again."""
    return trial.phase == CONFIRM


def replicates(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The trials that speak for a configuration: those that confirm it once one is COMPLETE, else the search's.

    >>> trials = [Trial(0, "COMPLETE"), Trial(1, "COMPLETE", phase="confirm"), Trial(2, "FAIL", phase="confirm")]
    >>> [trial.number for trial in replicates(trials)], [trial.number for trial in replicates(trials[:1])]
    ([1, 2], [0])
    """
    wanted = is_confirmed(trials)
    return tuple(trial for trial in trials if confirms(trial) == wanted)


def configurations(study: Study, split: str) -> list[Configuration]:
    """The configurations of a study: ranked ones first, best first, then the others in order of trial."""
    groups: dict[tuple[tuple[str, Any], ...], list[Trial]] = {}
    for trial in study.trials.values():
        groups.setdefault(tuple(trial.params.items()), []).append(trial)
    labels = distinct([_label(trials) for trials in groups.values()], [dict(identity) for identity in groups])
    at_best = study.metrics.at(study.best_epochs, split)
    validation = at_best if split == "valid" else study.metrics.at(study.best_epochs, "valid")
    information = study.facts.get("information")
    readings = {number: with_parts(values, information) for number, values in at_best.items()}
    found = [
        _configuration(label, trials, readings, validation, study.facts)
        for label, trials in zip(labels, groups.values(), strict=True)
    ]
    has_rows = any(ROW in configuration.params for configuration in found)
    return sorted(found, key=_rank_of_rows if has_rows else _rank)


def _configuration(
    label: str,
    trials: Sequence[Trial],
    readings: Mapping[int, Mapping[str, float]],
    validation: Mapping[int, Mapping[str, float]],
    facts: Mapping[str, Any],
) -> Configuration:
    complete = [trial.number for trial in replicates(trials) if trial.state == "COMPLETE"]
    measured = [readings[number] for number in complete if number in readings]
    values = {name: estimate([reading[name] for reading in measured if name in reading]) for name in METRICS + PARTS}
    elbo = estimate([validation[number].get("elbo", math.nan) for number in complete if number in validation])
    return Configuration(
        label,
        trials[0].params,
        tuple(trials),
        {name: value for name, value in values.items() if value is not None},
        elbo.mean if elbo else None,
        len(complete) - len(measured),
        any(map(is_collapsed, measured)),
        next(filter(None, (broken(facts, validation[number]) for number in complete if number in validation)), None),
    )


def _label(trials: Sequence[Trial]) -> str:
    return trials[0].label or f"trial {trials[0].number}"


def _rank(configuration: Configuration) -> tuple[bool, bool, float]:
    """Ranked ones first; sorting is stable, which keeps equals in order of trial."""
    validation = configuration.validation
    is_broken = configuration.broken is not None
    return configuration.complete == 0, is_broken, math.inf if validation is None else -validation


def _rank_of_rows(configuration: Configuration) -> tuple[bool, float]:
    return configuration.complete == 0, min(trial.number for trial in configuration.trials)


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
        complete = sorted((member for member in members if member.complete), key=_rank)
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
    4. A row whose -ELBO is no bound takes no part, nor does one that breaks a limit.
    5. Where some are confirmed, the others take no part: their seeds were chosen.
    """
    has_confirmed = any(candidate.confirmed for candidate in candidates)
    measured = [
        candidate
        for candidate in candidates
        if "elbo" in candidate.values
        and candidate.is_bound
        and not candidate.broken
        and candidate.confirmed == has_confirmed
    ]
    order = sorted(measured, key=lambda candidate: -candidate.values["elbo"].mean)[:2]
    errors = [candidate.values["elbo"].error for candidate in order]
    if len(order) < 2 or errors[0] is None or errors[1] is None:
        return None
    difference = order[0].values["elbo"].mean - order[1].values["elbo"].mean
    return order[0] if difference > 2 * math.hypot(errors[0], errors[1]) else None
