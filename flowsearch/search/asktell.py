"""Ask for the next trial, tell how it went: the search as a state machine on Optuna, without Ray, files or clocks.

Everything that happens reaches `AskTell` as one of three calls (`ask`, `report`, `finish`) in the order of the
journal, so making the same calls again from a journal gives the same state: that is how a study is resumed.

1. Trial numbers are Optuna's and count from 0. With S = `search.seeds`, trials S*c to S*c + S-1 are configuration c,
   trained with the configuration's own seed + 0 to S-1.
2. `search.first` comes first, then, under the Grid sampler, every point of the space that is not among them.
3. The objective is the best validation ELBO so far, in nats per document: Optuna maximises it.
4. A trial that finished is COMPLETE with that value; one that was stopped is PRUNED and keeps the value it was stopped
   at among its intermediate values; one that diverged or crashed is FAIL with its reason as a user attribute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import optuna
from optuna.trial import TrialState

from flowsearch.errors import SpaceError
from flowsearch.results import Reading
from flowsearch.search.label import label
from flowsearch.search.pruning import PRUNERS, Nothing, is_collapsed, prunes, step_of
from flowsearch.search.samplers import SAMPLERS, Enumeration
from flowsearch.search.space import ROW, Space, draw, grid
from flowsearch.training.config import Component

KEPT = ("kl", "active_units", "ppl")
"""Metrics of the best epoch that an Optuna trial carries as user attributes, beside its seed, label and seconds."""


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
        attempt: how many times it was handed out.
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
    attempt: int = 1
    state: str = "RUNNING"
    reason: str | None = None
    collapsed: bool = False
    seconds: float = 0.0
    elbo: dict[int, float] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    latest: Mapping[str, float] = field(default_factory=dict)

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
        self.study = optuna.create_study(
            study_name=space.study,
            direction="maximize",
            sampler=sampler,
            pruner=self._pruner.build({**PRUNERS, "Nothing": Nothing}),
        )
        self.planned = [dict(params) for params in space.search.first]
        if isinstance(sampler, Enumeration):
            self.planned += [params for params in grid(space) if params not in self.planned]
        self.configurations = len(self.planned) if isinstance(sampler, Enumeration) else space.search.trials
        self._asked: list[optuna.Trial] = []

    @property
    def total(self) -> int:
        """Trials of the whole study, replicates counted."""
        return self.configurations * int(self.space.search.seeds)

    def ask(self, params: Mapping[str, Any] | None = None) -> Trial | None:
        """The next trial, now running; None when every trial has been handed out.

        Args:
            params: take these instead of drawing.
        """
        number = len(self.trials)
        if params is None and number >= self.total:
            return None
        configuration, replicate = divmod(number, int(self.space.search.seeds))
        if params is None and replicate:
            params = self.trials[number - 1].params
        elif params is None and configuration < len(self.planned):
            params = self.planned[configuration]
        if params is not None:
            self.study.enqueue_trial(dict(params))
        asked = self.study.ask()
        assert asked.number == number
        trial = self._drawn(asked, replicate)
        self._asked.append(asked)
        self.trials.append(trial)
        asked.set_user_attr("seed", trial.seed)
        asked.set_user_attr("label", trial.label)
        return trial

    def _drawn(self, asked: optuna.Trial, replicate: int) -> Trial:
        """1. Values that are fine alone may not combine (a warm-up longer than the training): that trial FAILs."""
        tree = draw(self.space, asked)
        seed = int(tree["seed"]) + replicate
        config = {**tree, "seed": seed}
        try:
            return Trial(asked.number, asked.params, config, seed, asked.params.get(ROW) or label(config))
        except SpaceError as error:
            return Trial(asked.number, asked.params, {}, seed, "-", reason=str(error))

    def report(self, number: int, epoch: int, readings: Iterable[Reading], seconds: float = 0.0) -> Verdict | None:
        """Take in what was measured after an epoch; a verdict if the trial is to end here.

        1. Readings without a validation split (the importance-weighted bound, measured last) decide nothing.
        """
        trial = self.trials[number]
        valid = next((reading.values for reading in readings if reading.split == "valid"), None)
        if valid is None:
            return None
        trial.add(epoch, valid, seconds)
        if not math.isfinite(valid["elbo"]):
            return Verdict("FAIL", f"elbo is not finite at epoch {epoch}")
        step = step_of(epoch, trial.warmup_epochs)
        if step is None:
            return None
        if is_collapsed(valid) and not trial.collapsed:
            trial.collapsed = True
            self._asked[number].set_user_attr("collapsed_at", epoch)
        last = epoch >= int(trial.config["training"]["epochs"])
        if prunes(self._asked[number], step, valid["elbo"], last=last):
            return Verdict("PRUNED", f"{self._pruner.name} at epoch {epoch}")
        return None

    def settled(self, number: int, verdict: Verdict) -> Verdict:
        """1. A trial that ends without any validation ELBO has nothing to be compared by: it is a FAIL."""
        if verdict.state == "COMPLETE" and self.trials[number].value is None:
            return Verdict("FAIL", "it ended before its first epoch")
        return verdict

    def finish(self, number: int, verdict: Verdict) -> None:
        """End a trial, in Optuna's terms."""
        trial, asked = self.trials[number], self._asked[number]
        trial.state, trial.reason = verdict
        attributes = {"seconds": trial.seconds, "best_epoch": trial.best_epoch, "reason": trial.reason}
        attributes |= {name: trial.best[name] for name in KEPT if name in trial.best}
        for name, value in attributes.items():
            if value is not None:
                asked.set_user_attr(name, value)
        value = trial.value if verdict.state == "COMPLETE" else None
        self.study.tell(asked, value, state=TrialState[verdict.state])
