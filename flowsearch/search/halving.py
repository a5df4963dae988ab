"""Asynchronous successive halving over steps of any kind: dense ones as epochs, or far apart ones as seconds.

Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, the stopping variant: nothing waits and
nothing is resumed. Optuna's own rule (`SuccessiveHalvingPruner`) takes a trial's first value at or beyond a rung as
its value there, which is fair only while every trial reports at every rung; a trial whose first report comes late, for
it was warming up or its epochs are long, would meet the others with more behind it than they had. So here a value
counts at a rung only if it was there by then. Where trials report at every step the two rules are the same one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial


class Halving(BasePruner):
    """Stops a trial at a rung unless it is among the best `1 / factor` of those that got there.

    1. Rung r is at step `first * factor ** r`.
    2. At a rung a trial stands with the last value it had by then. One that had none is not judged there, and nobody
       is judged by it.
    3. A trial that reaches a rung is compared with those that reached it before, itself included; the best so far
       always goes on, and so do equals of the last one that does.
    4. A trial whose value at a rung is not a number is stopped, and nobody is compared with it.

    Args:
        first: the step of the first rung, at least 1.
        factor: the share that goes on is one in this many, at least 2.
    """

    def __init__(self, first: int, factor: int) -> None:
        self.first, self.factor = first, factor

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a trial stops at the last step that it has reported."""
        steps = list(trial.intermediate_values)
        if not steps:
            return False
        reached = self._rungs(steps[-2] if len(steps) > 1 else 0, steps[-1])
        if not reached:
            return False
        others = [
            other.intermediate_values for other in study.get_trials(deepcopy=False) if other.number != trial.number
        ]
        return any(self._stops_at(rung, trial.intermediate_values, others) for rung in reached)

    def _rungs(self, after: int, until: int) -> list[int]:
        rung, found = self.first, []
        while rung <= until:
            if rung > after:
                found.append(rung)
            rung *= self.factor
        return found

    def _stops_at(self, rung: int, own: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> bool:
        value = standing(own, rung)
        if value is None:
            return False
        known = [one for other in others if (one := standing(other, rung)) is not None]
        return math.isnan(value) or not goes_on(value, [one for one in known if not math.isnan(one)], self.factor)


def standing(values: Mapping[int, float], rung: int) -> float | None:
    """The last value of a trial at or before a rung; None if it has not reached the rung, or had none by then.

    Args:
        values: by step, in the order of steps.
        rung: a step.

    >>> standing({2: -9.0, 5: -8.0}, 4), standing({2: -9.0, 5: -8.0}, 1), standing({2: -9.0, 5: -8.0}, 6)
    (-9.0, None, None)
    """
    if rung in values:
        return values[rung]
    steps = list(values)
    place = bisect_right(steps, rung)
    return values[steps[place - 1]] if 0 < place < len(steps) else None


def goes_on(value: float, others: Sequence[float], factor: int) -> bool:
    """Whether a value is among the best `1 / factor` of itself and the others, and of them at least the best.

    >>> goes_on(-3.0, [], 3), goes_on(-3.0, [-2.0], 3), goes_on(-3.0, [-2.0, -4.0, -5.0, -6.0, -7.0], 3)
    (True, False, True)
    """
    ranked = sorted([*others, value], reverse=True)
    return value >= ranked[max(len(ranked) // factor, 1) - 1]
