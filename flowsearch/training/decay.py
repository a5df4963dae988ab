"""When the learning rate falls, judged after every epoch by the validation loss (-ELBO, KL weight 1)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from flowsearch.catalogue import members

__all__ = ["Constant", "He2019", "Plateau"]

Factor = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Verdict:
    """What follows from an epoch.

    Args:
        factor: what the learning rate is multiplied by.
        reload: whether training goes on from the best weights, with fresh optimisers.
        stop: whether training ends.
    """

    factor: float = 1.0
    reload: bool = False
    stop: bool = False


class Decay(ABC):
    """A rule for the learning rate.

    Args:
        warmup_epochs: the trial's KL warm-up.
    """

    def __init__(self, warmup_epochs: int) -> None:
        self.warmup_epochs = warmup_epochs

    @abstractmethod
    def judge(self, epoch: int, loss: float) -> Verdict:
        """Hear the validation loss of an epoch (1, 2, ...)."""

    def state_dict(self) -> dict[str, Any]:
        """What the rule remembers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember it again."""
        vars(self).update(state)


class Constant(Decay):
    """The learning rate stays."""

    def judge(self, epoch: int, loss: float) -> Verdict:
        return Verdict()


class Plateau(Decay):
    """Multiply by `factor` and go on from the best weights after `patience` epochs without a new best loss.

    1. Nothing decays during the warm-up or before `grace_epochs`, but epochs without improvement are counted.
    2. Training stops with the `decays`-th decay (He et al., 2019: the fifth).

    >>> rule = Plateau(0, patience=2)
    >>> [rule.judge(epoch, loss).factor for epoch, loss in enumerate([3.0, 2.0, 2.5, 2.1], start=1)]
    [1.0, 1.0, 1.0, 0.5]
    """

    def __init__(
        self,
        warmup_epochs: int,
        *,
        factor: Factor = 0.5,
        patience: PositiveInt = 2,
        grace_epochs: NonNegativeInt = 0,
        decays: PositiveInt = 5,
    ) -> None:
        super().__init__(warmup_epochs)
        self.factor, self.patience, self.grace_epochs, self.decays = factor, patience, grace_epochs, decays
        self.bar, self.without, self.done = math.inf, 0, 0

    def judge(self, epoch: int, loss: float) -> Verdict:
        if loss <= self.bar:
            self.bar, self.without = loss, 0
            return Verdict()
        self.without += 1
        if self.without < self.patience or epoch <= max(self.grace_epochs, self.warmup_epochs):
            return Verdict()
        self.without, self.done = 0, self.done + 1
        self.bar = self.bar_after(loss)
        return Verdict(self.factor, reload=True, stop=self.done >= self.decays)

    def bar_after(self, loss: float) -> float:
        """The loss to beat after a decay: still the best."""
        return self.bar

    def state_dict(self) -> dict[str, Any]:
        return {"bar": self.bar, "without": self.without, "done": self.done}


class He2019(Plateau):
    """The rule of the reference code: no decay in the first 15 epochs, and after one the loss to beat is the current
    one, not the best."""

    def __init__(self, warmup_epochs: int) -> None:
        super().__init__(0, factor=0.5, patience=2, grace_epochs=15, decays=5)

    def bar_after(self, loss: float) -> float:
        return loss


DECAYS = members(globals(), Decay)
