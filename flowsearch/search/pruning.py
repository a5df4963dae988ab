"""Pruning: which trials stop early, decided on their validation ELBO where as much has been spent on each.

While the KL weight still grows, an annealed trial is measured on an objective that it does not descend yet, so no trial
is judged inside its own warm-up. What the rungs count besides is a choice, `resource` (see
`flowsearch.search.resources`):

- `epochs`, the default: trials meet after as many epochs in all; rungs inside a trial's warm-up pass it by. On recorded
  curves, where warm-up epochs train nearly as much as others, this loses less than counting after warm-up, whether the
  winner is plain or annealed, and saves somewhat less (`tests/search/test_fairness.py`).
- `epochs_after_warmup`: trials meet after as many epochs at the full KL weight. An annealed trial has had its warm-up
  besides, which favours it at the first rungs of a short run.
- `seconds`: trials meet after as much wall time, which a lagging epoch takes many plain ones of.

With `after_longest_warmup` every trial gets as many epochs as the longest warm-up of the space before its first rung,
so that none is passed by: it saves less and loses least.

A pruner sees curves only. `stops` replays one over recorded curves, which is how it is tested and how another pruner
can be tried on a finished study (`flowsearch replay`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import optuna
from annotated_types import Ge, Gt, Lt
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, PercentilePruner
from optuna.trial import TrialState
from pydantic import NonNegativeInt, PositiveInt

from flowsearch.search.halving import Halving
from flowsearch.search.resources import RESOURCES, Name, Resource, Standing

COLLAPSED_KL = 0.1
"""Nats per document; below it the posterior says nothing about the document."""

Factor = Annotated[int, Ge(2)]


@dataclass(frozen=True)
class Rule:
    """A pruner, and what its steps count.

    Args:
        pruner: as Optuna has them.
        resource: where a trial stands, as a step.
    """

    pruner: BasePruner
    resource: Resource


def ASHA(
    longest_warmup: int = 0,
    *,
    reduction_factor: Factor = 3,
    min_epochs: PositiveInt = 1,
    min_early_stopping_rate: NonNegativeInt = 0,
    resource: Name = "epochs",
    after_longest_warmup: bool = False,
) -> Rule:
    """Asynchronous successive halving (Li et al., MLSys 2020), the stopping variant: nothing waits, nothing is resumed.

    1. Rung r is at step `first * reduction_factor ** (min_early_stopping_rate + r)`, `first` being `min_epochs`, or 1
       where steps are seconds.
    2. A trial that reaches a rung goes on if it is among the best `1 / reduction_factor` of those that reached it so
       far, itself included; the best so far always goes on. See `flowsearch.search.halving`.

    Args:
        longest_warmup: of the space, in epochs.
        reduction_factor: the share that goes on is one in this many.
        min_epochs: epochs that every trial gets, counted as `resource` says.
        min_early_stopping_rate: rungs left out at the start.
        resource: what rungs count.
        after_longest_warmup: whether `min_epochs` is that many and the longest warm-up of the space besides.
    """
    counted = RESOURCES[resource](min_epochs + longest_warmup * after_longest_warmup)
    return Rule(Halving(counted.first * reduction_factor**min_early_stopping_rate, reduction_factor), counted)


def Hyperband(
    longest_warmup: int = 0, *, max_epochs: PositiveInt, reduction_factor: Factor = 3, min_epochs: PositiveInt = 1
) -> Rule:
    """Hyperband (Li et al., JMLR 2018): several `ASHA` with ever later first rungs, each trial in one of them. Optuna's
    own, on epochs after warm-up.

    Args:
        longest_warmup: of no use here.
        max_epochs: the most epochs after warm-up that a trial can have; it sets the number of brackets.
        reduction_factor: as in `ASHA`.
        min_epochs: as in `ASHA`.
    """
    return _after_warmup(HyperbandPruner(min_epochs, max_epochs, reduction_factor))


def Median(
    longest_warmup: int = 0,
    *,
    startup: NonNegativeInt = 5,
    min_epochs: NonNegativeInt = 0,
    percentile: Annotated[float, Gt(0), Lt(100)] = 50.0,
) -> Rule:
    """Stops a trial whose best ELBO so far is worse than the median of the finished trials' at the same step
    (Golovin et al., Vizier, KDD 2017). Optuna's own, on epochs after warm-up.

    Args:
        longest_warmup: of no use here.
        startup: trials that finish before any is stopped.
        min_epochs: epochs after its warm-up that every trial gets.
        percentile: share of trials, in percent, that goes on.
    """
    return _after_warmup(PercentilePruner(percentile, n_startup_trials=startup, n_warmup_steps=min_epochs))


def Nothing(longest_warmup: int = 0) -> Rule:
    """No trial stops.

    Args:
        longest_warmup: of no use here.
    """
    return _after_warmup(NopPruner())


def _after_warmup(pruner: BasePruner) -> Rule:
    return Rule(pruner, RESOURCES["epochs_after_warmup"](1))


PRUNERS: dict[str, Callable[..., Rule]] = {builder.__name__: builder for builder in (ASHA, Hyperband, Median)}
"""The pruners that `search.pruner` may name; each is given the longest warm-up of the space, in epochs."""


def is_collapsed(values: Mapping[str, float]) -> bool:
    """Whether a validation reading taken after warm-up shows a posterior that ignores the document: no active unit, or
    a KL below `COLLAPSED_KL`. The ELBO alone does not tell, for a collapsed model is often a good language model
    (He et al., ICLR 2019).

    >>> is_collapsed({"kl": 3.0, "active_units": 4.0}), is_collapsed({"kl": 0.01}), is_collapsed({"active_units": 0.0})
    (False, True, True)
    """
    return values.get("active_units", 1.0) == 0 or values.get("kl", COLLAPSED_KL) < COLLAPSED_KL


@dataclass(frozen=True)
class Curve:
    """The validation ELBO of one trial, epoch by epoch from 1.

    Args:
        elbo: nats per document.
        warmup_epochs: of them, epochs in which the KL weight grew.
        seconds: wall time of each epoch; a second each if empty.
    """

    elbo: Sequence[float]
    warmup_epochs: int = 0
    seconds: Sequence[float] = ()

    @property
    def times(self) -> Sequence[float]:
        """Seconds of each epoch."""
        return self.seconds or [1.0] * len(self.elbo)


def stops(rule: Rule, curves: Sequence[Curve], *, workers: int = 1) -> list[int | None]:
    """The epoch at which `rule` would have stopped each of the recorded curves, None where it would not.

    1. Every worker takes the next curve as soon as it is free, and each epoch takes its recorded seconds; of epochs
       that end at the same time, that of the earlier trial comes first.

    Args:
        rule: fresh; it keeps nothing but may look at every earlier trial.
        curves: in the order in which the trials start, an epoch each at least.
        workers: trials that run at a time.

    >>> stops(ASHA(reduction_factor=2), [Curve([-3.0, -1.0, -1.0, -1.0]), Curve([-9.0] * 4)])
    [None, 1]
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="replay", direction="maximize", pruner=rule.pruner, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    stopped: list[int | None] = [None] * len(curves)
    waiting = iter([_Run(study, rule.resource, curve) for curve in curves])
    running: list[tuple[float, int, _Run]] = []

    def start(now: float) -> None:
        run = next(waiting, None)
        if run is not None:
            number = run.start()
            heapq.heappush(running, (now + run.curve.times[0], number, run))

    for _ in range(workers):
        start(0.0)
    while running:
        now, number, run = heapq.heappop(running)
        stops_here = run.advance()
        if stops_here:
            stopped[number] = run.epoch
        if stops_here or run.epoch == len(run.curve.elbo):
            start(now)
        else:
            heapq.heappush(running, (now + run.curve.times[run.epoch], number, run))
    return stopped


class _Run:
    """A recorded curve, lived through again."""

    def __init__(self, study: optuna.Study, resource: Resource, curve: Curve) -> None:
        self.curve, self.epoch = curve, 0
        self._study, self._resource = study, resource
        self._step, self._seconds = 0, 0.0

    def start(self) -> int:
        """Its number."""
        self._trial = self._study.ask()
        return self._trial.number

    def advance(self) -> bool:
        """An epoch more; True if the trial is stopped there."""
        elbo = self.curve.elbo[self.epoch]
        self._seconds += self.curve.times[self.epoch]
        self.epoch += 1
        is_last = self.epoch == len(self.curve.elbo)
        step = self._resource.after(self._step, Standing(self.epoch, self._seconds, self.curve.warmup_epochs))
        if step is not None:
            self._step = step
            if prunes(self._trial, step, elbo, last=is_last):
                self._study.tell(self._trial, state=TrialState.PRUNED)
                return True
        if is_last:
            best = max(filter(math.isfinite, self.curve.elbo), default=None)
            self._study.tell(self._trial, best, state=TrialState.FAIL if best is None else TrialState.COMPLETE)
        return False


def prunes(trial: optuna.Trial, step: int, elbo: float, *, last: bool) -> bool:
    """Report a step to Optuna and ask its pruner.

    1. A trial that reports its last epoch has finished: there is nothing left to save, so it is never stopped there.
    """
    trial.report(elbo, step)
    return trial.should_prune() and not last
