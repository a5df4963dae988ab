"""Ask for the next trial, tell how it went: the search as a state machine on Optuna, without Ray, files or clocks.

Everything that happens reaches `AskTell` as one of three calls (`ask`, `report`, `finish`) in the order of the
journal, so making the same calls again from a journal gives the same state: that is how a study is resumed.

1. Trial numbers count from 0. With S = `search.seeds`, trials S*c to S*c + S-1 of the search are configuration c,
   trained with the configuration's own seed + 0 to S-1.
2. `search.first` comes first, then, under the Grid sampler, every point of the space that is not among them.
3. The objective is the best validation ELBO so far, in nats per document: Optuna maximises it. With several
   `search.objectives` a trial's values are those of its one epoch with the best ELBO, so that they are of one model.
4. With `search.confirm`, when every trial of the search has ended, its best configurations are trained again, each with
   as many seeds: the configuration's own + S, S + 1, ... Such a trial has phase `confirm`, the next number, and the
   parameters of its configuration. Optuna never hears of it, so it is not pruned and decides nothing that is drawn.
5. The best configurations have the highest mean objective over their COMPLETE trials of the search, the first of
   equals; with several objectives, those on the Pareto front come first. One that breaks `search.require` in any of
   these trials is not among them, and an objective that is no bound (an implicit posterior) comes after all that are.
   They are chosen anew when a search that was made longer has ended again; what was confirmed is not trained twice.
6. A trial that finished is COMPLETE with that value; one that was stopped is PRUNED and keeps the value it was stopped
   at among its intermediate values; one that diverged or crashed is FAIL with its reason as a user attribute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

import optuna
from optuna.trial import TrialState

from flowsearch.errors import SpaceError
from flowsearch.results import Reading
from flowsearch.results.front import front
from flowsearch.search.constraints import broken, excesses
from flowsearch.search.label import label
from flowsearch.search.pruning import PRUNERS, Nothing, Rule, is_collapsed, prunes
from flowsearch.search.resources import Standing, step_of
from flowsearch.search.samplers import SAMPLERS, Enumeration
from flowsearch.search.space import ROW, Space, draw, grid, rebuild
from flowsearch.training.component import Component

KEPT = ("kl", "active_units", "ppl")
"""Metrics of the best epoch that an Optuna trial carries as user attributes, beside its seed, label and seconds."""


SEARCH, CONFIRM = "search", "confirm"
"""Phases: a trial either searches, or confirms what was found."""

Parameters = Mapping[str, Any]


class Verdict(NamedTuple):
    """Why a trial ends: its state (COMPLETE, PRUNED or FAIL) and, unless it completed, the reason."""

    state: str
    reason: str | None = None


@dataclass
class Trial:
    """One trial, as far as it went.

    Args:
        number: counts from 0; the name of its folder.
        params: dotted name to value, as drawn.
        config: everything that determines the trial; empty if the drawn values cannot be combined.
        seed: of the trial: the configuration's own plus the replicate.
        label: the model's name in a table.
        phase: `search` or `confirm`.
        attempt: how many times it was handed out.
        broken: the first limit of `search.require` that its best epoch breaks, once it has ended.
        step: the last step that the pruner has seen.
        halved: whether memory ran out, and it goes on with half a batch at a time.
        elbo: epoch to validation ELBO, nats per document.
        best: the validation reading of the best epoch.
        latest: the validation reading of the last epoch.
        seconds: wall time so far.
    """

    number: int
    params: Mapping[str, Any]
    config: Mapping[str, Any]
    seed: int
    label: str
    phase: str = SEARCH
    attempt: int = 1
    broken: str | None = None
    step: int = 0
    halved: bool = False
    state: str = "RUNNING"
    reason: str | None = None
    collapsed: bool = False
    seconds: float = 0.0
    elbo: dict[int, float] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    latest: Mapping[str, float] = field(default_factory=dict)

    def halve(self) -> None:
        """From now on hold half as many documents in memory, for the same steps."""
        training = self.config["training"]
        parts = 2 * int(training.get("accumulate", 1))
        self.config = {**self.config, "training": {**training, "accumulate": parts}}
        self.halved = True

    @property
    def warmup_epochs(self) -> int:
        """Epochs in which the KL weight grows."""
        return int(self.config["objective"]["warmup_epochs"])

    @property
    def last_epoch(self) -> int:
        """The epoch reached; 0 before the first report."""
        return max(self.elbo, default=0)

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the highest validation ELBO, the first of equals; None before any finite one."""
        finite = {epoch: elbo for epoch, elbo in self.elbo.items() if math.isfinite(elbo)}
        return max(finite, key=finite.__getitem__) if finite else None

    @property
    def is_bound(self) -> bool:
        """Whether the objective is a bound, which a critic's estimate of the KL is not: it may be above the truth."""
        return self.best.get("kl_is_bound", 1.0) == 1.0

    @property
    def value(self) -> float | None:
        """The objective: the best validation ELBO so far, nats per document."""
        return None if self.best_epoch is None else self.elbo[self.best_epoch]

    def add(self, epoch: int, values: Mapping[str, float], seconds: float) -> None:
        """Take in the validation reading of an epoch."""
        self.elbo[epoch] = values["elbo"]
        self.latest = values
        self.seconds += seconds
        if self.best_epoch == epoch:
            self.best = values


class AskTell:
    """The state of a search.

    Args:
        space: what may be drawn, and how.
        seed: of the sampler.
    """

    def __init__(self, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.trials: list[Trial] = []
        sampler = space.search.sampler.build(SAMPLERS, seed)
        self._pruner = space.search.pruner or Component(name="Nothing", knobs={})
        self._rule: Rule = self._pruner.build({**PRUNERS, "Nothing": Nothing}, space.longest_warmup)
        self.study = optuna.create_study(
            study_name=space.study,
            directions=list(space.search.objectives.values()),
            sampler=sampler,
            pruner=self._rule.pruner,
        )
        self.planned = [dict(params) for params in space.search.first]
        if isinstance(sampler, Enumeration):
            self.planned += [params for params in grid(space) if params not in self.planned]
        self.configurations = len(self.planned) if isinstance(sampler, Enumeration) else space.search.trials
        self._asked: dict[int, optuna.Trial] = {}

    @property
    def searching(self) -> int:
        """Trials of the search alone, replicates counted."""
        return self.configurations * int(self.space.search.seeds)

    @property
    def total(self) -> int:
        """Trials of the whole study; while the search goes on, as many to confirm as there can be."""
        searched, confirmed = self.of(SEARCH), self.of(CONFIRM)
        left = len(self._unconfirmed()) if self._has_searched(searched) else self._confirmable() - len(confirmed)
        return max(self.searching, len(searched)) + len(confirmed) + max(left, 0)

    def of(self, phase: str) -> list[Trial]:
        """The trials of a phase, in order."""
        return [trial for trial in self.trials if trial.phase == phase]

    def ask(self, params: Parameters | None = None) -> Trial | None:
        """The next trial, now running; None when there is none, or none before a running one has ended.

        1. Replicates have the parameters of the first of them whose start the journal has not lost.

        Args:
            params: take these, for the search, instead of drawing.
        """
        searched = self.of(SEARCH)
        if params is None and len(searched) >= self.searching:
            left = self._unconfirmed() if self._has_searched(searched) else []
            return self.confirm(*left[0]) if left else None
        configuration, replicate = divmod(len(searched), int(self.space.search.seeds))
        if params is None and replicate:
            params = next((trial.params for trial in searched[-replicate:] if trial.params), None)
        if params is None and configuration < len(self.planned):
            params = self.planned[configuration]
        if params is not None:
            self.study.enqueue_trial(dict(params))
        asked = self.study.ask()
        assert asked.number == len(searched)
        tree = draw(self.space, asked)
        trial = self._added(asked.params, lambda: tree, int(tree["seed"]) + replicate, SEARCH)
        self._asked[trial.number] = asked
        asked.set_user_attr("seed", trial.seed)
        asked.set_user_attr("label", trial.label)
        return trial

    def confirm(self, params: Parameters, seed: int) -> Trial:
        """A trial that confirms a configuration, now running.

        1. Recorded parameters that the space no longer has make a trial that FAILs.
        """
        return self._added(params, lambda: rebuild(self.space, params), seed, CONFIRM)

    def keep(self, params: Parameters, seed: int) -> Trial:
        """A recorded trial of the search whose parameters the space no longer has: Optuna counts it, and learns
        nothing from it."""
        self.study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
        return self._added(params, lambda: rebuild(self.space, params), seed, SEARCH)

    def _added(self, params: Parameters, tree: Callable[[], Mapping[str, Any]], seed: int, phase: str) -> Trial:
        """1. Values that are fine alone may not combine (a warm-up longer than the training): that trial FAILs."""
        number = len(self.trials)
        try:
            config = {**tree(), "seed": seed}
            trial = Trial(number, dict(params), config, seed, params.get(ROW) or label(config), phase)
        except SpaceError as error:
            trial = Trial(number, dict(params), {}, seed, "-", phase, reason=str(error))
        self.trials.append(trial)
        return trial

    def _has_searched(self, searched: Sequence[Trial]) -> bool:
        """Whether every trial of the search has ended."""
        return len(searched) >= self.searching and all(trial.state != "RUNNING" for trial in searched)

    def _confirmable(self) -> int:
        """How many trials confirm, at most."""
        wanted = self.space.search.confirm
        return min(wanted.best, self.configurations) * wanted.seeds if wanted else 0

    def _unconfirmed(self) -> list[tuple[Parameters, int]]:
        """Parameters and seed of what is yet to be confirmed, best configuration first."""
        wanted = self.space.search.confirm
        if not wanted:
            return []
        done = {(identity(trial.params), trial.seed) for trial in self.of(CONFIRM)}
        first = int(self.space.tree["seed"]) + int(self.space.search.seeds)
        chosen = best(self.of(SEARCH), wanted.best, self.space.search.objectives)
        each = [(p, seed) for p in chosen for seed in range(first, first + wanted.seeds)]
        return [(params, seed) for params, seed in each if (identity(params), seed) not in done]

    def report(self, number: int, epoch: int, readings: Iterable[Reading], seconds: float = 0.0) -> Verdict | None:
        """Take in what was measured after an epoch; a verdict if the trial is to end here.

        1. Readings without a validation split (the importance-weighted bound, measured last) decide nothing.
        2. Nor do those of a trial that the space no longer has.
        """
        trial = self.trials[number]
        valid = next((reading.values for reading in readings if reading.split == "valid"), None)
        if valid is None:
            return None
        trial.add(epoch, valid, seconds)
        if not trial.config:
            return None
        if not math.isfinite(valid["elbo"]):
            return Verdict("FAIL", f"elbo is not finite at epoch {epoch}")
        step = step_of(epoch, trial.warmup_epochs)
        if step is None:
            return None
        asked = self._asked.get(number)
        if is_collapsed(valid) and not trial.collapsed:
            trial.collapsed = True
            if asked:
                asked.set_user_attr("collapsed_at", epoch)
        return self._stopped(trial, asked, epoch, step) if asked else None

    def _stopped(self, trial: Trial, asked: optuna.Trial, epoch: int, after_warmup: int) -> Verdict | None:
        """1. A trial that the pruner has seen is one more to compare the others with, whatever else stops it."""
        is_last = epoch >= int(trial.config["training"]["epochs"])
        step = self._rule.resource.after(trial.step, Standing(epoch, trial.seconds, trial.warmup_epochs))
        prunes_it = False
        if step is not None and len(self.space.search.objectives) == 1:
            trial.step = step
            prunes_it = prunes(asked, step, trial.latest["elbo"], last=is_last)
        limit = broken(self.space.search.require, trial.latest, after_warmup)
        if limit and not is_last:
            return Verdict("PRUNED", f"requires {limit} at epoch {epoch}")
        return Verdict("PRUNED", f"{self._pruner.name} at epoch {epoch}") if prunes_it else None

    def settled(self, number: int, verdict: Verdict) -> Verdict:
        """What a trial's end amounts to.

        1. A trial that ends without any validation ELBO has nothing to be compared by: it is a FAIL.
        2. So is one whose best epoch lacks an objective, or has it not finite.
        """
        trial = self.trials[number]
        if verdict.state != "COMPLETE":
            return verdict
        if trial.value is None:
            return Verdict("FAIL", "it ended before its first epoch")
        for name in self.space.search.objectives:
            if not math.isfinite(trial.best.get(name, math.nan)):
                return Verdict("FAIL", f"{name} was not measured, or is not finite, at its best epoch")
        return verdict

    def finish(self, number: int, verdict: Verdict) -> None:
        """End a trial, in Optuna's terms if it is one of the search.

        1. One that is COMPLETE without a value that the space now asks for is a FAIL to Optuna alone.
        """
        trial, asked = self.trials[number], self._asked.get(number)
        trial.state, trial.reason = verdict
        is_complete = verdict.state == "COMPLETE"
        trial.broken = broken(self.space.search.require, trial.best)
        if asked is None:
            return
        attributes = {"seconds": trial.seconds, "best_epoch": trial.best_epoch, "reason": trial.reason}
        attributes |= {name: trial.best[name] for name in KEPT if name in trial.best}
        for name, value in attributes.items():
            if value is not None:
                asked.set_user_attr(name, value)
        for name, excess in excesses(self.space.search.require, trial.best if is_complete else trial.latest).items():
            asked.set_constraint(name, excess)
        values = [trial.best.get(name, math.nan) for name in self.space.search.objectives]
        has_values = is_complete and all(map(math.isfinite, values))
        state = TrialState.FAIL if is_complete and not has_values else TrialState[verdict.state]
        self.study.tell(asked, values if has_values else None, state=state)

    def pareto(self) -> list[Trial]:
        """The COMPLETE trials of the search that no other beats in every objective, highest ELBO first; of those that
        keep `search.require` if any does, and of those whose objective is a bound if any is.

        1. One that ended before an objective was asked for, and lacks it, is compared with none.
        """
        objectives = self.space.search.objectives
        complete = [trial for trial in self.of(SEARCH) if trial.state == "COMPLETE" and has_all(objectives, trial.best)]
        kept = [trial for trial in complete if not trial.broken] or complete
        candidates = [trial for trial in kept if trial.is_bound] or kept
        on_front = front([oriented(objectives, trial.best) for trial in candidates])
        found = [trial for trial, is_on in zip(candidates, on_front, strict=True) if is_on]
        return sorted(found, key=lambda trial: -trial.best["elbo"])


def oriented(objectives: Mapping[str, str], values: Mapping[str, float]) -> list[float]:
    """The objectives of a reading, more being better.

    >>> oriented({"elbo": "maximize", "ppl": "minimize"}, {"elbo": -38.0, "kl": 2.0, "ppl": 40.0})
    [-38.0, -40.0]
    """
    return [values[name] * (1 if direction == "maximize" else -1) for name, direction in objectives.items()]


def has_all(objectives: Iterable[str], values: Mapping[str, float]) -> bool:
    """Whether a reading has every objective, each finite.

    >>> has_all(("elbo", "ppl"), {"elbo": -38.0, "ppl": math.inf}), has_all(("elbo", "kl"), {"elbo": -38.0})
    (False, False)
    """
    return all(math.isfinite(values.get(name, math.nan)) for name in objectives)


def identity(params: Parameters) -> Hashable:
    """What makes two configurations of a study the same one."""
    return tuple(sorted(params.items()))


def best(trials: Iterable[Trial], count: int, objectives: Mapping[str, str]) -> list[Parameters]:
    """The parameters of the best configurations by their means over COMPLETE trials, best first: those whose objective
    is a bound, then the others; of each, those on the Pareto front of the objectives come first, then by ELBO.

    1. A trial that lacks an objective, which was asked for after it had ended, is not among them.
    """
    members: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        if trial.state == "COMPLETE" and has_all(objectives, trial.best):
            members.setdefault(identity(trial.params), []).append(trial)
    kept = [group for group in members.values() if not any(trial.broken for trial in group)]
    bounds = [group for group in kept if all(trial.is_bound for trial in group)]
    others = [group for group in kept if group not in bounds]
    ranked = [*_by_mean(bounds, objectives), *_by_mean(others, objectives)]
    return [group[0].params for group in ranked[:count]]


def _by_mean(groups: Sequence[Sequence[Trial]], objectives: Mapping[str, str]) -> list[Sequence[Trial]]:
    """Those whose means are on the Pareto front of the objectives, then the others, each by ELBO."""
    means = [
        [fmean(values) for values in zip(*(oriented(objectives, trial.best) for trial in group), strict=True)]
        for group in groups
    ]
    elbos = [fmean(trial.best["elbo"] for trial in group) for group in groups]
    on_front = front(means)
    order = sorted(range(len(groups)), key=lambda place: (not on_front[place], -elbos[place]))
    return [groups[place] for place in order]
