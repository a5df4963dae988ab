"""Pruning: which trials stop early, decided on their validation ELBO counted from the end of their own warm-up.

While the KL weight still grows, an annealed trial is measured on an objective that it does not descend yet, so at the
same epoch it would be compared with a plain trial that has a head start. Here **step** s of a trial is epoch
`warmup_epochs + s`, and epochs inside the warm-up have no step: rungs compare like with like. The rules themselves
are Optuna's.

A pruner sees curves only. `stops` replays one over recorded curves, which is how it is tested and how another pruner
can be tried on a finished study.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import optuna
from annotated_types import Ge, Gt, Lt
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, PercentilePruner, SuccessiveHalvingPruner
from pydantic import NonNegativeInt, PositiveInt

COLLAPSED_KL = 0.1
"""Nats per document; below it the posterior says nothing about the document."""

Factor = Annotated[int, Ge(2)]


def ASHA(
    *, reduction_factor: Factor = 3, min_epochs: PositiveInt = 1, min_early_stopping_rate: NonNegativeInt = 0
) -> BasePruner:
    """Asynchronous successive halving (Li et al., MLSys 2020), the stopping variant: nothing waits, nothing is resumed.

    1. Rung r is at step `min_epochs * reduction_factor ** (min_early_stopping_rate + r)`.
    2. A trial that reaches a rung goes on if it is among the best `1 / reduction_factor` of those that reached it so
       far, itself included; the best so far always goes on.

    Args:
        reduction_factor: the share that goes on is one in this many.
        min_epochs: epochs after its warm-up that every trial gets.
        min_early_stopping_rate: rungs left out at the start.
    """
    return SuccessiveHalvingPruner(min_epochs, reduction_factor, min_early_stopping_rate)


def Hyperband(*, max_epochs: PositiveInt, reduction_factor: Factor = 3, min_epochs: PositiveInt = 1) -> BasePruner:
    """Hyperband (Li et al., JMLR 2018): several `ASHA` with ever later first rungs, each trial in one of them.

    Args:
        max_epochs: the most epochs after warm-up that a trial can have; it sets the number of brackets.
        reduction_factor: as in `ASHA`.
        min_epochs: as in `ASHA`.
    """
    return HyperbandPruner(min_epochs, max_epochs, reduction_factor)


def Median(
    *,
    startup: NonNegativeInt = 5,
    min_epochs: NonNegativeInt = 0,
    percentile: Annotated[float, Gt(0), Lt(100)] = 50.0,
) -> BasePruner:
    """Stops a trial whose best ELBO so far is worse than the median of the finished trials' at the same step
    (Golovin et al., Vizier, KDD 2017).

    Args:
        startup: trials that finish before any is stopped.
        min_epochs: epochs after its warm-up that every trial gets.
        percentile: share of trials, in percent, that goes on.
    """
    return PercentilePruner(percentile, n_startup_trials=startup, n_warmup_steps=min_epochs)


PRUNERS: dict[str, Callable[..., BasePruner]] = {builder.__name__: builder for builder in (ASHA, Hyperband, Median)}
"""The pruners that `search.pruner` may name."""

Nothing = NopPruner


def step_of(epoch: int, warmup_epochs: int) -> int | None:
    """The step of an epoch, or None inside the warm-up.

    >>> [step_of(epoch, warmup_epochs=2) for epoch in (1, 2, 3, 4)]
    [None, None, 1, 2]
    """
    return epoch - warmup_epochs if epoch > warmup_epochs else None


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
    """

    elbo: Sequence[float]
    warmup_epochs: int = 0


def stops(pruner: BasePruner, curves: Sequence[Curve], *, workers: int = 1) -> list[int | None]:
    """The epoch at which `pruner` would have stopped each of the recorded curves, None where it would not.

    Args:
        pruner: fresh; it keeps nothing but may look at every earlier trial.
        curves: in the order in which the trials started.
        workers: trials that run at a time, an epoch each in turn.

    >>> stops(ASHA(reduction_factor=2), [Curve([-3.0, -1.0, -1.0, -1.0]), Curve([-9.0] * 4)])
    [None, 1]
    """
    study = optuna.create_study(direction="maximize", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))
    stopped: list[int | None] = [None] * len(curves)
    waiting = iter(range(len(curves)))
    running: list[Iterator[int | None]] = []
    while True:
        while len(running) < workers and (number := next(waiting, None)) is not None:
            running.append(_run(study.ask(), study, curves[number], stopped))
        if not running:
            return stopped
        running = [trial for trial in running if next(trial, "ended") != "ended"]


def _run(trial: optuna.Trial, study: optuna.Study, curve: Curve, stopped: list[int | None]) -> Iterator[Any]:
    for epoch, elbo in enumerate(curve.elbo, start=1):
        step = step_of(epoch, curve.warmup_epochs)
        if step is not None and prunes(trial, step, elbo, last=epoch == len(curve.elbo)):
            stopped[trial.number] = epoch
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return
        yield epoch
    study.tell(trial, max(curve.elbo))


def prunes(trial: optuna.Trial, step: int, elbo: float, *, last: bool) -> bool:
    """Report a step to Optuna and ask its pruner, which also notes the rungs that the trial has reached.

    1. A trial that reports its last epoch has finished: there is nothing left to save, so it is never stopped there.
    """
    trial.report(elbo, step)
    return trial.should_prune() and not last
