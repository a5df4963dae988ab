"""How the weight of the KL grows during warm-up (Bowman et al., 2015)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

__all__ = ["Cyclical", "He2019", "Linear", "Sigmoid"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Pace:
    """How many steps an epoch has.

    Args:
        batches: batches per epoch, as counted.
        nominal: documents / batch size, a real number; equal-length batching makes more batches than that.
    """

    batches: int
    nominal: float


class Annealing(ABC):
    """The share of beta that the KL weighs.

    1. From the end of the warm-up on it is 1, whatever it was before: a trial is judged from there on, and not before.

    Args:
        warmup_epochs: length of the warm-up; 0 means none, and a share of 1 throughout.
        pace: the length of an epoch.
    """

    def __init__(self, warmup_epochs: int, pace: Pace) -> None:
        self.warmup_epochs, self.pace = warmup_epochs, pace

    @abstractmethod
    def share(self, step: int) -> float:
        """Between 0 and 1, for step 0, 1, ..."""


class Linear(Annealing):
    """From `start` to 1 in equal increments, reached with the last step of the warm-up.

    >>> [Linear(1, Pace(3, 2.5), start=0.1).share(step) for step in range(4)]
    [0.4, 0.7, 1.0, 1.0]
    """

    def __init__(self, warmup_epochs: int, pace: Pace, *, start: Share = 0.1) -> None:
        super().__init__(warmup_epochs, pace)
        self.start = start

    def share(self, step: int) -> float:
        return self.ramp(step, self.warmup_epochs * self.pace.batches)

    def ramp(self, step: int, length: float) -> float:
        """The line itself: the first step has taken one increment already, as in the reference code."""
        return 1.0 if step + 1 >= length else self.start + (1 - self.start) * (step + 1) / length


class He2019(Linear):
    """As the reference code of He et al. (2019) counts: increments of (1 - start) / (warmup * documents / batch size).

    Equal-length batches are more than documents / batch size, so the weight is 1 somewhat before the warm-up ends.
    """

    def share(self, step: int) -> float:
        return self.ramp(step, self.warmup_epochs * self.pace.nominal)


class Sigmoid(Annealing):
    """A logistic curve over the warm-up, half of it at half time (Bowman et al., 2015), and 1 from its last step on.

    Args:
        steepness: the logistic function's argument runs from -steepness / 2 to steepness / 2.

    >>> [round(Sigmoid(1, Pace(4, 4.0), steepness=8).share(step), 3) for step in range(4)]
    [0.119, 0.5, 0.881, 1.0]
    """

    def __init__(self, warmup_epochs: int, pace: Pace, *, steepness: PositiveFloat = 10.0) -> None:
        super().__init__(warmup_epochs, pace)
        self.steepness = steepness

    def share(self, step: int) -> float:
        length = self.warmup_epochs * self.pace.batches
        if step + 1 >= length:
            return 1.0
        argument = self.steepness * ((step + 1) / length - 0.5)
        return 0.5 * (1 + math.tanh(argument / 2))  # the logistic function; exp(-argument) could overflow


class Cyclical(Annealing):
    """The warm-up in equal cycles, each a line from 0 to 1 and then 1 to its end.

    Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing (Fu et al., 2019).

    1. The first step of a cycle has taken one increment already, as in `Linear`.
    2. A cycle of less than one step is 1.

    Args:
        cycles: in the whole warm-up.
        ramp: the share of a cycle in which the weight grows.

    >>> [Cyclical(2, Pace(4, 4.0), cycles=2, ramp=0.5).share(step) for step in range(8)]
    [0.5, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        warmup_epochs: int,
        pace: Pace,
        *,
        cycles: PositiveInt = 4,
        ramp: Annotated[float, Field(gt=0, le=1)] = 0.5,
    ) -> None:
        super().__init__(warmup_epochs, pace)
        self.cycles, self.ramp = cycles, ramp

    def share(self, step: int) -> float:
        length = self.warmup_epochs * self.pace.batches
        if step + 1 >= length:
            return 1.0
        begun = step * self.cycles // length
        place = (step + 1) * self.cycles / length - begun
        return min(1.0, place / self.ramp)
