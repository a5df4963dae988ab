"""How the weight of the KL grows during warm-up (Bowman et al., 2015)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

__all__ = ["He2019", "Linear"]

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
